"""One runtime for each worker, and an image with the host's own Python, in which small servers run."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_nsjail.kernel import wire
from pytest_nsjail.network.bound import bind
from pytest_nsjail.network.published import Client
from pytest_nsjail.network.publisher import Publication, Publisher
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.jail import Jail
from pytest_nsjail.spec.dependency import Elf, Text, Tree, Users
from pytest_nsjail.spec.publish import Publish

PYTHON = "/usr/bin/python3"


def library() -> Tree:
    """The standard library of Debian's Python."""
    return Tree(f"/usr/lib/{Path(PYTHON).resolve().name}", exclude=("test", "__pycache__"))


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with Runtime(str(tmp_path_factory.mktemp("store"))) as one:
        yield one


@pytest.fixture(scope="session")
def box(runtime: Runtime) -> Image:
    """Debian's Python with its standard library, and a user."""
    return runtime.image(
        Elf(PYTHON, to="/bin/python"), library(), Users(nodeuser=500),
        Text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"), env={"PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1"}, name="box",
    )


@pytest.fixture
def serve(runtime: Runtime, box: Image) -> Iterator[Callable[..., Jail]]:
    """Starts a Python program; it has said ``ready`` when this returns, unless it is told otherwise."""
    jails: list[Jail] = []

    def started(script: str, *, said: str = "ready", **options: object) -> Jail:
        jail = runtime.start(["python", "-u", "-c", script], image=box, **options)  # type: ignore[arg-type]
        jails.append(jail)
        until(lambda: said in jail.stdout or jail.ended)
        assert said in jail.stdout, jail.wait().report()
        return jail

    yield started
    for jail in jails:
        jail.stop()


def until(true: Callable[[], bool]) -> None:
    """Look again and again."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.005)


@pytest.fixture
def many() -> Iterator[None]:
    """As many descriptors as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    return until


class Relayed:
    """A port, published, of a jail that is none."""

    def __init__(self, publisher: Publisher, inside: int, *, udp: bool = False) -> None:
        ours, theirs = wire.pair()
        self.init = threading.Thread(target=_init, args=(theirs,))
        self.init.start()
        self._theirs = theirs
        self._publication = Publication(publisher, bind([Publish(inside, udp=udp)]))
        with ours:
            self._publication.start(ours)
        (self._published,) = self._publication.published.values()
        self.address = self._published.address

    @property
    def clients(self) -> tuple[Client, ...]:
        return self._published.clients

    def ends(self) -> None:
        """The init is gone; pytest does not know yet."""
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)
        self.init.join()

    def close(self) -> None:
        self._publication.close()
        self.ends()

    def connect(self) -> socket.socket:
        sock = socket.create_connection(self.address, timeout=20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


def _init(channel: socket.socket) -> None:
    """As :class:`pytest_nsjail.jail.agent.Agent`."""
    with channel:
        try:
            while asked := wire.receive(channel):
                with socket.socket(*asked.body["kind"]) as made:
                    wire.send(channel, {}, [made.fileno()])
        except OSError:
            pass


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    one = Publisher()
    yield one
    one.close()


@pytest.fixture
def publish(publisher: Publisher) -> Iterator[Callable[..., Relayed]]:
    jails: list[Relayed] = []

    def published(inside: int, **options: bool) -> Relayed:
        jails.append(Relayed(publisher, inside, **options))
        return jails[-1]

    yield published
    for jail in jails:
        jail.close()

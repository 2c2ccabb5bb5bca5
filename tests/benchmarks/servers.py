"""How long it takes from asking for a Redis to its PONG: in a jail, as a bare process that is polled, and by testcontainers where a Docker engine answers.

The container is of the same files as the jail. Ryuk, an image of testcontainers' own that removes what a killed test leaves, is not needed here: leave it out
by ``TESTCONTAINERS_RYUK_DISABLED=true`` where no registry is in reach.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from pytest_nsjail import Elf, Listening
from pytest_nsjail.runtime import Runtime
from tests.benchmarks import engine
from tests.benchmarks.measure import Times, table

ROUNDS = 40
OURS = "nsjail_start"
_REDIS = "/usr/bin/redis-server"
_OPTIONS = ("--save", "", "--port")
# Between two attempts to connect: what test suites sleep, or less.
_POLL = 0.01

Way = Callable[[], AbstractContextManager[tuple[str, int]]]


def measured(directory: Path) -> str:
    """The table: medians, until PONG came; a server's end is not in them."""
    with Runtime(str(directory / "store")) as runtime, ExitStack() as stack:
        image = runtime.image(Elf(_REDIS))

        @contextmanager
        def jailed() -> Iterator[tuple[str, int]]:
            with runtime.start([_REDIS, *_OPTIONS, "6379"], image=image, publish={6379: 0}, ready=Listening(6379)) as jail:
                yield jail.ports[6379]

        ways: dict[str, Way] = {OURS: jailed, "subprocess, connected to every 10 ms": _polled}
        if importlib.util.find_spec("testcontainers") is not None and engine.answers():
            command = json.dumps([_REDIS, *_OPTIONS, "6379", "--protected-mode", "no"])
            tag = stack.enter_context(engine.image(Path(image.rootfs.path), f"CMD {command}", "EXPOSE 6379"))
            ways["testcontainers"] = lambda: _contained(tag)
        return table(_times(ways), OURS)


def _times(ways: dict[str, Way]) -> Times:
    times: Times = {name: [] for name in ways}
    names = list(ways)
    for number in range(-1, ROUNDS):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            with ways[name]() as address:
                _ping(address)
                took = time.perf_counter() - began
            if number >= 0:
                times[name].append(took)
            # A spare jail, and what is left to do of the last one's end.
            time.sleep(0.05)
    return times


@contextmanager
def _polled() -> Iterator[tuple[str, int]]:
    """A process of the host's on a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address: tuple[str, int] = free.getsockname()
    server = subprocess.Popen([_REDIS, *_OPTIONS, str(address[1])], stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(address).close()
                break
            except ConnectionRefusedError:
                time.sleep(_POLL)
        yield address
    finally:
        server.terminate()
        server.wait()


@contextmanager
def _contained(tag: str) -> Iterator[tuple[str, int]]:
    from testcontainers.redis import RedisContainer  # type: ignore[import-not-found]

    with RedisContainer(tag) as container:
        yield container.get_container_host_ip(), int(container.get_exposed_port(6379))


def _ping(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as sock:
        sock.sendall(b"PING\r\n")
        if sock.recv(16) != b"+PONG\r\n":
            raise SystemExit("no PONG came")

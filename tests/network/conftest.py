"""One runtime for each worker, and an image with the host's own Python, in which small servers run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.jail import Jail
from pytest_nsjail.spec.dependency import Elf, Text, Tree, Users

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

"""One runtime for each worker, and one image: a static busybox, and a probe that says what it finds."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_nsjail.kernel.facts import facts as known
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.result import Result
from pytest_nsjail.spec.dependency import Directory, Elf, Symlink, Text, Users

APPLETS = (
    "sh", "cat", "chmod", "chown", "dd", "echo", "env", "false", "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mkfifo", "mv", "nc", "ps",
    "pwd", "readlink", "rm", "sleep", "stat", "tail", "test", "touch", "true", "wc", "yes",
)

Facts = Callable[..., Any]
Shell = Callable[..., Result]


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with Runtime(str(tmp_path_factory.mktemp("store"))) as one:
        yield one


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("probe") / "probe"
    subprocess.run(["gcc", "-static", "-O1", "-o", program, Path(__file__).with_name("probe.c")], check=True)
    return program


@pytest.fixture(scope="session")
def box(runtime: Runtime, probe: Path) -> Image:
    """A shell and the usual small programs, the probe, a user, and files to change."""
    return runtime.image(
        Elf("/bin/busybox"), *(Symlink(f"/bin/{name}", "busybox") for name in APPLETS), Elf(str(probe), "/bin/probe"), Users(nodeuser=500),
        Directory("/mnt"), Directory("/ro"), Text("/data/kept", "kept\n"), Text("/data/changed", "old\n"), Text("/data/gone", "gone\n"),
        Text("/data/sub/deep", "deep\n"), env={"PATH": "/bin"}, name="box",
    )


@pytest.fixture(scope="session")
def sh(runtime: Runtime, box: Image) -> Shell:
    """Runs a line of shell in a jail of its own."""
    return lambda script, **options: runtime.run(["sh", "-c", script], image=options.pop("image", box), **options)


@pytest.fixture(scope="session")
def facts(runtime: Runtime, box: Image) -> Facts:
    """What the probe finds in a jail of its own, started as told."""
    return lambda **options: json.loads(runtime.run(["probe", "facts"], image=options.pop("image", box), check=True, **options).stdout)


@pytest.fixture(scope="session")
def as_root() -> bool:
    return os.geteuid() == 0


@pytest.fixture
def removable(request: pytest.FixtureRequest, as_root: bool) -> None:
    """For a test whose program removes a directory of the image with what is in it, or makes one where something was.

    The layer then needs a mark upon a directory, and a plain user's overlay keeps it in an attribute that tmpfs has since Linux 6.6.
    """
    if not as_root and known().kernel < (6, 6):
        request.applymarker(pytest.mark.xfail(reason="rmdir and mkdir in the image, as a user: Linux 6.6"))

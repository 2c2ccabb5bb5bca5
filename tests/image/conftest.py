"""Closures written as dicts, programs in other processes, and overlays that no mount table of the host ever sees."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_nsjail.fileview import Kind
from pytest_nsjail.image.host import HostView
from pytest_nsjail.image.store import Store
from pytest_nsjail.resolve.entry import Closure, Content, Entry

PROJECT = Path(__file__).parents[2]
# Root mounts as it is; anybody else in a user namespace of his own.
UNSHARE = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")


def closure_of(tree: dict[str, object]) -> Closure:
    """Bytes: a file; a Path: a copy of the host's; a string: a symlink; None: a directory; an Entry: itself."""
    entries: dict[str, Entry] = {}
    for path, value in tree.items():
        for parent in reversed(Path(path).parents):
            entries.setdefault(str(parent), Entry(str(parent), Kind.DIRECTORY, 0o755, ("parent",)))
        if isinstance(value, Entry):
            entries[path] = value
        elif isinstance(value, bytes):
            entries[path] = Entry(path, Kind.FILE, 0o644, (f"Text({path!r})",), content=value)
        elif isinstance(value, Path):
            status = value.stat()
            content = Content(HostView(), str(value))
            entries[path] = Entry(path, Kind.FILE, status.st_mode & 0o1777, (f"File({str(value)!r})",), content, mtime_ns=status.st_mtime_ns)
        elif isinstance(value, str):
            entries[path] = Entry(path, Kind.SYMLINK, 0o777, (f"Symlink({path!r})",), target=value)
        else:
            entries[path] = Entry(path, Kind.DIRECTORY, 0o755, (f"Directory({path!r})",))
    return Closure(entries)


@pytest.fixture(name="closure_of")
def _closure_of() -> Callable[[dict[str, object]], Closure]:
    return closure_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start python code in another process; it is gone when the test ends."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, wrapped: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(PROJECT), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [*wrapped, sys.executable, "-c", code, *map(str, arguments)], text=True, env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def mounting() -> tuple[str, ...]:
    """The command in front of a program that mounts, in a mount namespace of its own."""
    if subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.fail(f"this host lets nobody mount in a namespace of his own ({' '.join(UNSHARE)})")
    return UNSHARE


@pytest.fixture(params=["userxattr", "trusted"])
def overlay(request: pytest.FixtureRequest, tmp_path: Path, mounting: tuple[str, ...]) -> Iterator[Callable[[Path, str], tuple[int, list[str]]]]:
    """Run a shell script in an overlay over a directory; gives a descriptor of its upper, and what ``find`` saw in the overlay.

    The upper is on a tmpfs of the script's mount namespace, which lives until the test ends.
    """
    if request.param == "trusted" and os.geteuid():
        pytest.skip("trusted.* attributes are root's")
    started: list[tuple[subprocess.Popen[str], int]] = []

    def run(lower: Path, script: str) -> tuple[int, list[str]]:
        area = tmp_path / f"area{len(started)}"
        area.mkdir()
        options = f"lowerdir={lower},upperdir={area}/upper,workdir={area}/work{',userxattr' if request.param == 'userxattr' else ''}"
        whole = f"""set -e
            mount -t tmpfs -o mode=755 none {area}; cd {area}; mkdir upper work merged
            mount -t overlay -o {options} none merged; cd merged; ({script}) >&2; find . -mindepth 1 -printf '/%P\\n'; echo .; cat"""
        shell = subprocess.Popen([*mounting, "sh", "-c", whole], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert shell.stdout
        seen = []
        while (line := shell.stdout.readline().rstrip("\n")) != ".":
            assert line, "the script failed"
            seen.append(line)
        upper = os.open(f"/proc/{shell.pid}/root{area}/upper", os.O_RDONLY | os.O_DIRECTORY)
        started.append((shell, upper))
        return upper, sorted(seen)

    yield run
    for shell, upper in started:
        os.close(upper)
        shell.communicate()

"""Control groups of version 2: what the kernel counts, where the groups are, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_nsjail.jail.status import OutOfMemory, Signaled
from pytest_nsjail.kernel.hierarchy import own_hierarchy
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.spec.limits import Limits

FOUND = own_hierarchy()
TOP = Path(FOUND.directory("memory")) if FOUND else Path("/sys/fs/cgroup/plain")
pytestmark = pytest.mark.skipif(FOUND is None, reason="no group is delegated here")

# A session of its own, that says when its jail runs and then waits to be told to end.
SESSION = """
import sys
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.spec.limits import Limits
with Runtime(sys.argv[1]) as runtime:
    with runtime.start(["/bin/busybox", "sleep", "1000"], limits=Limits(memory="64M", processes=20)) as jail:
        print(jail.host_pid, flush=True)
        sys.stdin.read()
"""


def _start(store: Path, *before: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*before, sys.executable, "-c", SESSION, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with _start(tmp_path / "store") as process:
        yield process
        process.kill()


def _groups(pid: int, below: Path = TOP) -> list[Path]:
    """The groups of a session, which is named by its process id and by chance."""
    return list(below.glob(f"pytest-nsjail-{pid}-*"))


def _own(pid: int | str) -> str:
    """The group of a process, below the one that is delegated."""
    path = "/sys/fs/cgroup" + Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")
    return path.removeprefix(str(TOP))


def test_it_is_version_2():
    assert FOUND is not None
    assert FOUND.version == 2


def test_counters_are_the_kernels(runtime: Runtime, box: Image):
    result = runtime.run(["probe", "hoard", "40"], image=box, limits=Limits(memory="64M"))
    # memory.peak, since Linux 5.19; no rusage counts files in memory.
    assert 40 << 20 < result.usage.peak_memory <= 64 << 20
    result = runtime.run(["sh", "-c", "head -c 30000000 /dev/zero >/tmp/file"], image=box, limits=Limits(memory="64M"))
    assert 30_000_000 < result.usage.peak_memory <= 64 << 20


def test_a_limit_is_told_by_the_kernel(runtime: Runtime, box: Image):
    result = runtime.run(["probe", "hoard", "300"], image=box, limits=Limits(memory="64M"))
    assert result.status == OutOfMemory(64 << 20, Signaled(signal.SIGKILL))
    assert "the kernel killed 1 of its processes" in result.report()
    result = runtime.run(["sh", "-c", "probe breed 30; exit 1"], image=box, limits=Limits(processes=10))
    assert "the kernel refused" in result.report()


def test_the_program_is_in_a_group_and_its_init_is_not(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box, limits=Limits(memory="64M", processes=20)) as jail:
        assert _own(jail.host_pid).startswith(f"/pytest-nsjail-{os.getpid()}-")
        group = TOP / _own(jail.host_pid)[1:]
        assert [(group / name).read_text().strip() for name in ("memory.max", "memory.swap.max", "pids.max")] == [str(64 << 20), "0", "20"]
        assert (group / "cgroup.procs").read_text().split() == [str(jail.host_pid)]
    assert not group.exists()


def test_sessions_share_a_group(session: subprocess.Popen[str], runtime: Runtime, box: Image):
    """As the workers of pytest-xdist do: who comes later finds its processes moved, and makes its groups beside the others' all the same."""
    with runtime.start(["sleep", "60"], image=box, limits=Limits(memory="64M")) as jail:
        other = session.stdout.readline().strip()
        assert _own(other).startswith(f"/pytest-nsjail-{session.pid}-")
        session.communicate(timeout=60)
        assert not _groups(session.pid)
        assert jail.run(["true"]).ok
        assert isinstance(jail.run(["probe", "hoard", "300"]).status, OutOfMemory)


def test_nothing_is_left_of_a_killed_session(session: subprocess.Popen[str]):
    program = session.stdout.readline().strip()
    [directory] = _groups(session.pid)
    session.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not directory.exists()
    assert not os.path.exists(f"/proc/{program}")


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of a test's own, beside the one of the tests, which has their session."""
    (TOP / "cgroup.subtree_control").write_text("+memory +pids")
    directory = TOP / "own"
    directory.mkdir()
    yield directory
    directory.rmdir()


def _enter(group: Path) -> tuple[str, ...]:
    return "sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh"


def _children(group: Path) -> list[str]:
    return sorted(entry.name for entry in group.iterdir() if entry.is_dir())


def test_a_group_is_as_it_was_when_the_last_session_has_ended(tmp_path: Path, group: Path):
    sessions = [_start(tmp_path / "store", *_enter(group)) for _ in range(2)]
    try:
        for one in sessions:
            assert one.stdout.readline()
        assert _children(group) == sorted(["pytest-nsjail-host", *(found.name for one in sessions for found in _groups(one.pid, group))])
        assert len(_children(group)) == 3
        for one in sessions:
            one.communicate(timeout=60)
            assert one.returncode == 0
        assert _children(group) == []
        assert (group / "cgroup.subtree_control").read_text().strip() == ""
    finally:
        for one in sessions:
            one.kill()
            one.wait()


def test_a_group_with_one_controller_holds_one_limit(tmp_path: Path, group: Path):
    (group / "cgroup.subtree_control").write_text("+pids")
    inner = group / "inner"
    inner.mkdir()
    try:
        with _start(tmp_path / "store", *_enter(inner)) as one:
            place = inner / _own(one.stdout.readline().strip()).removeprefix("/own/inner/")
            assert (place / "pids.max").read_text() == "20\n"
            assert not (place / "memory.max").exists()
            one.communicate(timeout=60)
            assert one.returncode == 0
        assert _children(inner) == []
    finally:
        inner.rmdir()

"""Whatever becomes of pytest while an isolated test runs: nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_nsjail.errors import SetupError
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.spec.isolated import IsolatedSpec

TESTS = """
import subprocess, sys, time, pytest
pytestmark = pytest.mark.isolated

@pytest.mark.parametrize("number", range(1000))
def test_it(number):
    subprocess.Popen(["/bin/sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &"]).wait()
    time.sleep(number % 3 * 0.01)
"""


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _below(pid: int) -> set[int]:
    """A process and everybody below it."""
    found, todo = {pid}, [pid]
    while todo:
        children = _children(todo.pop())
        todo += children
        found |= set(children)
    return found


def _alive(pids: set[int]) -> set[int]:
    found = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.add(pid)
        except OSError:
            pass
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("turn", range(3))
def test_an_end_of_pytest_in_the_midst_of_a_test(tmp_path, number, turn):
    (tmp_path / "test_it.py").write_text(TESTS)
    mounts = Path("/proc/self/mounts").read_text()
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/base", f"--nsjail-store={tmp_path}/store"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    deadline = time.monotonic() + 30
    # Pytest, the keeper, the zygote, and an init at least.
    while len(_below(session.pid)) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.Random(turn).uniform(0, 1))
    os.kill(session.pid, signal.SIGSTOP)
    seen = _below(session.pid)
    os.kill(session.pid, number)
    os.kill(session.pid, signal.SIGCONT)
    for _ in range(10):
        # An interrupt that comes while Python runs a callback is told there, and forgotten: who sits before it presses the keys again.
        try:
            session.wait(4)
            break
        except subprocess.TimeoutExpired:
            session.send_signal(number)
    session.wait(1)
    assert len(seen) > 3
    deadline = time.monotonic() + 20
    while _alive(seen) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _alive(seen) == set()
    assert Path("/proc/self/mounts").read_text() == mounts
    assert not (tmp_path / "store" / "stage").exists() or os.listdir(tmp_path / "store" / "stage") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="who may not be dumped shows its descriptors to root alone")
def test_the_zygote_holds_nothing_of_a_jail_that_has_ended(inside, runtime: Runtime, project: Path, tmp_path: Path):
    def held() -> int:
        (zygote,) = _children(runtime._ground.launcher._keeper.pid)  # type: ignore[union-attr]
        return len(os.listdir(f"/proc/{zygote}/fd"))

    def leave_one() -> None:
        subprocess.Popen(["/bin/sleep", "1000"])

    def write() -> None:
        Path("new").write_text("")

    def refused() -> None:
        # Gone between the order and the making.
        gone = tmp_path / "gone"
        gone.mkdir()
        spec = IsolatedSpec.declared(writable=[str(gone)])
        settle, isolations = runtime._cells._isolations.settle, runtime._cells._isolations
        isolations.settle = lambda *args: (settle(*args), gone.rmdir())[0]  # type: ignore[method-assign]
        try:
            with pytest.raises(SetupError, match="a hold on"):
                runtime.cell(spec, project=str(project), writable=[])
        finally:
            del isolations.settle  # type: ignore[method-assign]

    def each() -> None:
        for body in (write, leave_one, lambda: os._exit(3), lambda: None):
            inside(body)
        refused()

    each()
    before = held()
    for _ in range(3):
        each()
    deadline = time.monotonic() + 20
    # A spare may be on its way.
    while held() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert held() <= before

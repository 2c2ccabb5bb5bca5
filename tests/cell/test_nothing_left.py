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

TESTS = """
import subprocess, sys, time, pytest
pytestmark = pytest.mark.isolated

@pytest.mark.parametrize("number", range(1000))
def test_it(number):
    subprocess.Popen(["/bin/sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &"]).wait()
    time.sleep(number % 3 * 0.01)
"""


def _below(pid: int) -> set[int]:
    """A process and everybody below it."""
    found, todo = {pid}, [pid]
    while todo:
        try:
            children = [int(child) for child in Path(f"/proc/{todo[-1]}/task/{todo.pop()}/children").read_text().split()]
        except OSError:
            continue
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

"""What it costs to isolate a test that does nothing, against pytest-forked, which forks and isolates nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import markdown

TESTS, ROUNDS = 300, 5
# The last pytest that pytest-forked runs on.
_PEERS = ("pytest==8.4.*", "pytest-forked==1.7.5")
_WAYS = {
    "plain": ("-p", "no:forked"),
    "--nsjail": ("-p", "no:forked", "--nsjail"),
    "pytest-forked": ("--forked",),
}
_EMPTY = f"""
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_nothing(number):
    pass
"""


def measured(directory: Path) -> str:
    """The table: milliseconds that each way adds to a test, of the clock and of all processors together."""
    python = directory / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    project = Path(__file__).parents[2]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *_PEERS, "--editable", project], check=True)
    (directory / "test_nothing.py").write_text(_EMPTY)
    wall: dict[str, list[float]] = {name: [] for name in _WAYS}
    spent: dict[str, list[float]] = {name: [] for name in _WAYS}
    for _ in range(ROUNDS):
        for name, options in _WAYS.items():
            took, used = _once([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *options], directory)
            wall[name].append(took)
            spent[name].append(used)
    rows = []
    for name in list(_WAYS)[1:]:
        over = [median(ours - plain for ours, plain in zip(times[name], times["plain"], strict=True)) / TESTS * 1000 for times in (wall, spent)]
        ratio = median((ours - plain) / (theirs - plain) for ours, plain, theirs in zip(wall[name], wall["plain"], wall["pytest-forked"], strict=True))
        rows.append((name, f"{over[0]:.2f} ms", f"{over[1]:.2f} ms", f"{ratio:.2f}"))
    return markdown(("overhead of an empty test", "time", "CPU", "ratio to pytest-forked"), rows)


def _once(argv: list[str], directory: Path) -> tuple[float, float]:
    """Seconds that a session takes, and what all its processes use."""
    started = time.perf_counter()
    session = subprocess.Popen(argv, cwd=directory, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(session.pid, 0)
    session.returncode = os.waitstatus_to_exitcode(status)
    if session.returncode:
        raise SystemExit(f"{' '.join(argv)} failed")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime

"""What it costs to isolate a test that does nothing, against pytest-forked, which forks and isolates nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import markdown

# What a session takes to start is in the shorter one too, and told apart.
SHORT, LONG, ROUNDS = 50, 650, 5
# The last pytest that pytest-forked runs on.
_PEERS = ("pytest==8.4.*", "pytest-forked==1.7.5")
_PLAIN, _FORKED = "plain", "pytest-forked"
_WAYS = {
    _PLAIN: ("-p", "no:forked"),
    "--nsjail": ("-p", "no:forked", "--nsjail"),
    _FORKED: ("--forked",),
}
_EMPTY = """
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_nothing(number):
    pass
"""


def measured(directory: Path) -> str:
    """The table: milliseconds that each way adds to a test, of the clock and of all processors together, and to a session."""
    python = directory / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    project = Path(__file__).parents[2]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *_PEERS, "--editable", project], check=True)
    for tests in (SHORT, LONG):
        (directory / f"test_{tests}.py").write_text(_EMPTY.format(tests=tests))
    runs = [{name: _each(python, options, directory) for name, options in _WAYS.items()} for _ in range(ROUNDS)]
    rows = []
    for name in list(_WAYS)[1:]:
        over = [[mine - plain for mine, plain in zip(run[name], run[_PLAIN], strict=True)] for run in runs]
        time_of_one, used_by_one, start = (median(some) for some in zip(*over, strict=True))
        ratio = median((run[name][0] - run[_PLAIN][0]) / (run[_FORKED][0] - run[_PLAIN][0]) for run in runs)
        rows.append((name, f"{time_of_one:.2f} ms", f"{used_by_one:.2f} ms", f"{ratio:.2f}", f"{start:.0f} ms"))
    return markdown(("overhead of an empty test", "time", "CPU", f"ratio to {_FORKED}", "and of a session"), rows)


def _each(python: Path, options: tuple[str, ...], directory: Path) -> tuple[float, float, float]:
    """Milliseconds that a test takes, that all processors take for it, and that a session takes without any."""
    argv = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    short, long = (_once([*argv, f"test_{tests}.py"], directory) for tests in (SHORT, LONG))
    one, used = ((more - less) / (LONG - SHORT) * 1000 for less, more in zip(short, long, strict=True))
    return one, used, short[0] * 1000 - one * SHORT


def _once(argv: list[str], directory: Path) -> tuple[float, float]:
    """Seconds that a session takes, and what all its processes use."""
    started = time.perf_counter()
    session = subprocess.Popen(argv, cwd=directory, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(session.pid, 0)
    session.returncode = os.waitstatus_to_exitcode(status)
    if session.returncode:
        raise SystemExit(f"{' '.join(argv)} failed")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime

"""A session with as many isolated tests as wanted, alone and in two workers, beside one that isolates none; figures as Markdown."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

from tests.benchmarks.measure import markdown
from tests.soak.observer import Sample
from tests.soak.session import Course, observe

_WAYS = {"--nsjail": ("--nsjail",), "--nsjail -n 2": ("--nsjail", "-p", "xdist", "-n2"), "plain": ()}


def main() -> None:
    """Print a table for each way."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--tests", type=int, default=5000, help="how many; default: 5000")
    options = parser.parse_args()
    print(f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}, {'root' if os.getuid() == 0 else 'unprivileged'}")
    with tempfile.TemporaryDirectory(prefix="nsjail-soak-") as directory:
        for number, (name, arguments) in enumerate(_WAYS.items()):
            for course in observe(Path(directory) / str(number), options.tests, arguments):
                print(f"\n## {name}: {len(course.seconds)} tests in {sum(course.seconds):.0f} s\n\n{_table(course)}", flush=True)


def _table(course: Course) -> str:
    counts = [(name, str(getattr(course.early, name)), str(getattr(course.late, name)), f"{course.grown(name):+}") for name in Sample._fields]
    first, last = course.ends()
    time = ("time of one of a hundred tests", f"{1000 * first:.2f} ms", f"{1000 * last:.2f} ms", f"x {last / first:.2f}")
    return markdown(("", "early", "late", "change"), [*counts, time])


if __name__ == "__main__":
    main()

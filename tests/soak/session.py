"""One observed session, and what became of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.soak.observer import DIRECTORY, Sample

# One in ten leaves a process behind, one writes to the project, and one is bounded where the host has a control group for that.
_TESTS = """
import subprocess
import pytest
from pytest_nsjail import Limits
from pytest_nsjail.kernel.hierarchy import own_hierarchy

BOUNDED = [pytest.mark.isolated(limits=Limits(memory="256M"))] if own_hierarchy() else []

@pytest.mark.parametrize("number", [pytest.param(number, marks=BOUNDED if number % 10 == 3 else []) for number in range({tests})])
def test_it(number):
    if number % 10 == 1:
        # Longer than the jail waits for it; where there is no jail, it ends by itself.
        subprocess.Popen(["/bin/sleep", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if number % 10 == 2:
        open("written", "w").close()
"""
_COMPARED = 100
# Made once, by the first tests.
_WARM_UP = 10


class Course(NamedTuple):
    """What one process of pytest's has seen of its tests.

    :param seconds: how long each took.
    :param early: what the session held after a sixth of them, ``late``: after the last.
    """

    seconds: list[float]
    early: Sample
    late: Sample

    def grown(self, name: str) -> int:
        """By how much something became more in between; see :class:`Sample`."""
        return int(getattr(self.late, name)) - int(getattr(self.early, name))

    def ends(self) -> tuple[float, float]:
        """How long one of the first hundred tests took, and one of the last: medians, in seconds."""
        return median(self.seconds[_WARM_UP : _WARM_UP + _COMPARED]), median(self.seconds[-_COMPARED:])


def observe(directory: Path, tests: int, options: Sequence[str] = ()) -> list[Course]:
    """Run a session.

    :param options: of pytest's: without ``--nsjail`` the plugin is left out; with ``-n``, there is a course of every worker.
    :raises RuntimeError: with its output, where a test fails.
    """
    (directory / "seen").mkdir(parents=True)
    (directory / "project").mkdir()
    (directory / "project" / "pytest.ini").write_text("[pytest]\nmarkers = isolated\n")
    (directory / "project" / "test_it.py").write_text(_TESTS.format(tests=tests))
    root = str(Path(__file__).parents[2])
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {DIRECTORY: str(directory / "seen"), "PYTHONPATH": os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))}
    env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_NSJAIL_STORE": str(directory / "store"), "PYTHONDONTWRITEBYTECODE": "1"}
    plugins = ["-p", "nsjail" if "--nsjail" in options else "no:nsjail", "-p", "tests.soak.observer", "-p", "no:cacheprovider"]
    argv = [sys.executable, "-m", "pytest", "-q", *plugins, f"--basetemp={directory}/base", *options]
    session = subprocess.run(argv, cwd=directory / "project", env=env, capture_output=True, text=True)
    if session.returncode:
        raise RuntimeError(f"{' '.join(argv)}: exit status {session.returncode}\n{session.stdout[-4000:]}{session.stderr[-4000:]}")
    seen = [json.loads(path.read_text()) for path in sorted((directory / "seen").iterdir())]
    return [Course(one["seconds"], Sample(*one["samples"][0]), Sample(*one["samples"][-1])) for one in seen]

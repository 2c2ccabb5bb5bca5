"""The closure of 200 programs of /usr/bin, by this package and by lddtree, each in a process of its own; and whether they agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.measure import interleaved, table

PROGRAMS = 200
ROUNDS = 5
OURS = "pytest_nsjail"

RESOLVE = """
import json, sys
from pytest_nsjail.errors import ResolveError
from pytest_nsjail.image.host import HostView
from pytest_nsjail.resolve.closure import resolve
from pytest_nsjail.spec.dependency import Elf
closures = {}
for program in json.load(sys.stdin):
    try:
        closures[program] = [entry.path for entry in resolve([Elf(program)], HostView()) if entry.kind.value == "file"]
    except ResolveError:
        closures[program] = []
print(json.dumps(closures))
"""


def measured() -> str:
    """The table, and a line on where the two differ."""
    programs = dynamic_programs()
    # It is a Python script, and its first line may find a Python that does not have its library.
    lddtree = ["/usr/bin/python3", "/usr/bin/lddtree", "-l"]
    times = interleaved({OURS: lambda: _ours(programs), "lddtree": lambda: _output([*lddtree, *programs])}, ROUNDS)
    ours = _ours(programs)
    differing = [program for program in programs if _real(ours[program]) != _real(_output([*lddtree, program]).split())]
    agreement = f"The same files for {len(programs) - len(differing)} of {len(programs)} programs"
    return f"{table(times, OURS)}\n\n{agreement}{': not for ' if differing else ''}{', '.join(differing)}."


def dynamic_programs() -> list[str]:
    """The first of /usr/bin, by name, that are ELF files with an interpreter."""
    found: list[str] = []
    for path in sorted(Path("/usr/bin").iterdir()):
        if len(found) == PROGRAMS:
            break
        if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
            continue
        with path.open("rb") as file:
            start = file.read(4096)
        if start.startswith(b"\x7fELF") and b"/ld-linux" in start:
            found.append(str(path))
    return found


def _ours(programs: list[str]) -> dict[str, list[str]]:
    closures: dict[str, list[str]] = json.loads(_output([sys.executable, "-c", RESOLVE], json.dumps(programs)))
    return closures


def _output(argv: list[str], stdin: str = "") -> str:
    return subprocess.run(argv, check=True, input=stdin, capture_output=True, text=True).stdout


def _real(paths: list[str]) -> set[str]:
    """Without ld.so.cache, which is no library and comes along where the loader needs it."""
    return {os.path.realpath(path) for path in paths} - {"/etc/ld.so.cache"}

"""One suite: fetched, installed in an environment of its own, run twice, compared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import venv
from pathlib import Path
from typing import NamedTuple

from tests.suites.suite import Suite

_PROJECT = Path(__file__).resolve().parents[2]
_HERE = Path(__file__).resolve().parent
# For what hangs, and not for what is slow on a busy machine; in seconds.
_LONGEST = 4 * 3600
Outcomes = dict[str, list[str]]


class Run(NamedTuple):
    """A session's end.

    :ivar outcomes: by node id, of each phase.
    :ivar left: what is in its directory of temporary files, besides pytest's own.
    """

    outcomes: Outcomes
    status: int
    seconds: float
    output: str
    left: tuple[str, ...]

    @property
    def counts(self) -> str:
        """Pytest's last line, without its time: warnings are counted there, too."""
        lines = self.output.strip().splitlines() or [""]
        return lines[-1].strip("= ").rpartition(" in ")[0]


class Place:
    """Where a suite is kept.

    :param cache: a directory; what is in it already is not fetched, nor installed, again.
    """

    def __init__(self, suite: Suite, cache: Path) -> None:
        self.suite = suite
        self._sdists = cache / "sdists"
        # Another interpreter or another pytest is another environment.
        self._directory = cache / f"{suite.name}-{suite.version}-{sys.implementation.cache_tag}-pytest{suite.pytest}"
        self.source = self._directory / "source"
        self._python = self._directory / "env/bin/python"

    def prepare(self) -> None:
        """Have the source and the environment."""
        if (self._directory / "ready").exists():
            return
        shutil.rmtree(self._directory, ignore_errors=True)
        self._sdists.mkdir(parents=True, exist_ok=True)
        suite = self.suite
        name = suite.name.replace("-", "_")
        sdist = self._sdists / f"{name}-{suite.version}.tar.gz"
        if not sdist.exists():
            # Only the project itself is built from its source: what builds it may come as a wheel.
            options = ["--quiet", "--no-deps", "--no-binary", suite.name, "--dest", str(self._sdists)]
            _called(sys.executable, "-m", "pip", "download", *options, f"{suite.name}=={suite.version}")
        with tarfile.open(sdist) as archive:
            archive.extractall(self._directory, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        (self._directory / f"{name}-{suite.version}").rename(self.source)
        venv.create(self._directory / "env")
        install = [sys.executable, "-m", "pip", "--python", str(self._python), "install", "--quiet", "--disable-pip-version-check"]
        _called(*install, f"pytest=={suite.pytest}", *suite.requirements, "--editable", str(_PROJECT))
        # Last, and from here: a requirement may want another version of it.
        _called(*install, str(self.source))
        (self._directory / "ready").touch()

    def run(self, *arguments: str) -> Run:
        """Its tests, in a session of their own."""
        told = self._directory / "outcomes.json"
        told.unlink(missing_ok=True)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_", "XDG_")) and name != "PYTHONPATH"}
        # As in an activated environment.
        environ["PATH"] = os.pathsep.join([str(self._python.parent), environ.get("PATH", os.defpath)])
        temporary = self._directory / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        environ |= {"OUTCOMES": str(told), "PYTHONPATH": str(_HERE), "PYTEST_NSJAIL_STORE": str(self._directory / "store"), "TMPDIR": str(temporary)}
        command = [str(self._python), "-m", "pytest", "-p", "outcomes", "-p", "no:cacheprovider", "--tb=short", *self.suite.arguments, *arguments]
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=self.source, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_LONGEST,
        )
        seconds = time.monotonic() - started
        output = done.stdout.decode(errors="replace")
        (self._directory / f"{'jailed' if '--nsjail' in arguments else 'plain'}.txt").write_text(output)
        left = tuple(sorted(path.name for path in temporary.iterdir() if not path.name.startswith("pytest-of-")))
        return Run(json.loads(told.read_text()) if told.exists() else {}, done.returncode, seconds, output, left)


def differences(suite: Suite, plain: Outcomes, jailed: Outcomes) -> tuple[list[str], list[str]]:
    """What differs and must not, and what differs with a reason."""
    unexpected, expected = [], []
    for nodeid in [*plain, *(nodeid for nodeid in jailed if nodeid not in plain)]:
        one, other = plain.get(nodeid, ["not run"]), jailed.get(nodeid, ["not run"])
        if one != other:
            reason = suite.reason(nodeid)
            line = f"{nodeid}: {', '.join(one)} -> {', '.join(other)}"
            (expected if reason else unexpected).append(f"{line} ({reason})" if reason else line)
    return unexpected, expected


def _called(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")

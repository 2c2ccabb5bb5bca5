"""Inner sessions of pytest, each a process of its own, and a look at what they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pytest_nsjail

_PROJECT = str(Path(pytest_nsjail.__file__).parents[1])
_INTERRUPTIBLE = "import signal, sys, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(pytest.main(sys.argv[1:]))"


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store for the sessions that do not care which: one for each worker."""
    return tmp_path_factory.mktemp("shared") / "store"


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, shared_store: Path) -> pytest.Pytester:
    """Inner sessions that know nothing of the outer one; a warning is an error in them too."""
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "XDG_")) and name != "PYTEST_DEBUG_TEMPROOT"]:
        monkeypatch.delenv(name)
    # The package that the outer session has, installed or not.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [_PROJECT, os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("PYTEST_NSJAIL_STORE", str(shared_store))
    # Other plugins take most of a session's time.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p nsjail")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


class Processes:
    """Processes of this host, by pid and start: a pid may be given anew."""

    def __init__(self, pid: int) -> None:
        self._root = pid

    def descendants(self) -> dict[tuple[int, str], str]:
        """Every process below the one that was named, and its command."""
        everybody = dict(self._everybody())
        found: dict[tuple[int, str], str] = {}
        parents = {self._root}
        while parents:
            children = {pid: one for pid, one in everybody.items() if one[0] in parents}
            found.update({(pid, start): command for pid, (_, start, command) in children.items()})
            parents = set(children)
        return found

    def running(self, command: str, seconds: float = 30.0) -> dict[tuple[int, str], str]:
        """The same, once one of them runs ``command``."""
        deadline = time.monotonic() + seconds
        while command not in (found := self.descendants()).values():
            assert time.monotonic() < deadline, f"nobody runs {command!r}: {found}"
            time.sleep(0.02)
        return found

    @classmethod
    def left(cls, of: dict[tuple[int, str], str], seconds: float = 5.0) -> dict[tuple[int, str], str]:
        """Those who are still there after a while."""
        deadline = time.monotonic() + seconds
        while True:
            there = {(pid, start) for pid, (_, start, _) in cls._everybody()}
            left = {one: command for one, command in of.items() if one in there}
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.02)

    @staticmethod
    def _everybody() -> Iterator[tuple[int, tuple[int, str, str]]]:
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    stat = Path(f"/proc/{entry}/stat").read_text(errors="replace")
                    command = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").replace("\0", " ")
                except (FileNotFoundError, ProcessLookupError):
                    continue
                name, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
                yield int(entry), (int(fields[1]), fields[19], command or name)


class Session:
    """An inner session that is not waited for.

    :ivar process: its main process.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.processes = Processes(process.pid)

    def end(self, number: int) -> tuple[int, str]:
        """Send it a signal; its exit status, and what it wrote."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out.decode()


@pytest.fixture
def session(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Session]]:
    """Starts an inner session, whose temporary directory is ``tmp`` and whose store is ``store``."""
    (inner.path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(inner.path / "tmp"))
    monkeypatch.setenv("PYTEST_NSJAIL_STORE", str(inner.path / "store"))
    started: list[Session] = []

    def start(*arguments: str) -> Session:
        command = [sys.executable, "-c", _INTERRUPTIBLE, "-p", "no:cacheprovider", f"--basetemp={inner.path / 'base'}", *arguments]
        started.append(Session(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=inner.path)))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()

"""A plugin for the observed session: how long each test takes, and what the session holds early on and at its end."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_nsjail.kernel.hierarchy import own_hierarchy

# Where each pytest process that runs tests writes what it has seen.
DIRECTORY = "NSJAIL_SOAK"
_LOOKS, _BETWEEN = 20, 0.02


class Sample(NamedTuple):
    """What a session holds at one moment, everything below its process included.

    :param descriptors: of pytest.
    :param mounts: in sight of pytest and, where that may be read (a plain user's may not), of the zygote.
    :param namespaces: of pytest's descriptors and of all processes that may be looked into.
    :param groups: control groups of the session's.
    :param processes: the dead that nobody has reaped among them.
    :param memory: anonymous memory of pytest, in KiB.
    :param zygote: of the zygote.
    """

    descriptors: int
    mounts: int
    namespaces: int
    groups: int
    processes: int
    memory: int
    zygote: int


class Observer:
    """Of one process of pytest's."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._seconds: list[float] = []
        self._samples: list[Sample] = []
        self._tests = 0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._tests = len(items)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, nextitem: pytest.Item | None) -> Generator[None, object, object]:
        started = time.perf_counter()
        # A test's own process does not come back from here.
        result = yield
        self._seconds.append(time.perf_counter() - started)
        # By then all that is made once is made. A worker of pytest-xdist has its share of the tests.
        if len(self._seconds) == self._tests // 6 or nextitem is None:
            self._samples.append(sample())
        return result

    def pytest_sessionfinish(self) -> None:
        if self._seconds:
            seen = {"seconds": self._seconds, "samples": self._samples}
            (self._directory / f"{os.getpid()}.json").write_text(json.dumps(seen))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Observer(os.environ[DIRECTORY]))


def sample() -> Sample:
    """The least of some looks: a jail that has ended, and the one that is prepared for the next test, come and go meanwhile."""
    gc.collect()
    looks = []
    for _ in range(_LOOKS):
        looks.append(_look())
        time.sleep(_BETWEEN)
    return Sample(*(min(column) for column in zip(*looks, strict=True)))


def _look() -> Sample:
    own = os.getpid()
    below = _below(own)
    zygote = next((pid for pid in below if _text(f"/proc/{pid}/comm") == "nsjail-zygote\n"), 0)
    descriptors = _links(f"/proc/{own}/fd")
    namespaces = {link for pid in (own, *below) for link in _links(f"/proc/{pid}/ns")}
    namespaces |= {link for link in descriptors if link.endswith("]") and not link.startswith(("pipe:", "socket:", "anon_inode:"))}
    mounts = sum(_text(f"/proc/{pid}/mountinfo").count("\n") for pid in (own, zygote))
    return Sample(len(descriptors), mounts, len(namespaces), _groups(own), len(below), _anonymous(own), _anonymous(zygote))


def _below(pid: int) -> list[int]:
    """Everybody below a process."""
    found, todo = [], [pid]
    while todo:
        here = todo.pop()
        children = [int(child) for child in _text(f"/proc/{here}/task/{here}/children").split()]
        found += children
        todo += children
    return found


def _groups(session: int) -> int:
    hierarchy = own_hierarchy()
    directories = {directory for _, directory in hierarchy.directories} if hierarchy else set()
    return sum(entry.name.startswith(f"pytest-nsjail-{session}-") for directory in directories for entry in os.scandir(directory))


def _anonymous(pid: int) -> int:
    lines = [line for line in _text(f"/proc/{pid}/status").splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) if lines else 0


def _links(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except OSError:
        return []  # it has ended, or is not to be looked into
    found = []
    for name in names:
        try:
            found.append(os.readlink(f"{directory}/{name}"))
        except OSError:
            continue
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""

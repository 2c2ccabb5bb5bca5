"""One jail's control group, in whichever hierarchy this host lets it be made.

It bounds the jail's payload. The jail's init is not in it: an init that the kernel killed for its
payload's memory could not say so.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pytest_nsjail.kernel.hierarchy import LEAF, NAME, Hierarchy, own_hierarchy, read


class Counters(NamedTuple):
    """What the kernel counted for one group.

    :param oom_kills: processes killed for memory.
    :param forks_refused: processes not made, for the limit on their number.
    :param peak: the most memory used at once, in bytes; None where the kernel does not say (version 2 before Linux 5.19).
    """

    oom_kills: int
    forks_refused: int
    peak: int | None


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


class Group:
    """One jail's group: a directory in each hierarchy, below one of this session's.

    :param session: a name that is this session's alone: its keeper removes what a killed pytest left, by it.
    :raises OSError: what the kernel said, with the path.
    """

    def __init__(self, hierarchy: Hierarchy, session: str, name: str, *, memory: int | None, processes: int | None) -> None:
        self._version = hierarchy.version
        self._directories: dict[str, str] = {}
        wanted = [controller for controller, limit in (("memory", memory), ("pids", processes)) if limit is not None]
        try:
            for controller in wanted:
                parent = f"{hierarchy.directory(controller)}/{NAME}{session}"
                if self._version == 2:
                    _make_parent(hierarchy, parent)
                os.makedirs(parent, exist_ok=True)
                directory = f"{parent}/{name}"
                if directory not in self._directories.values():
                    # One that is there already is somebody else's, or would begin with his counters.
                    os.mkdir(directory)
                self._directories[controller] = directory
            if memory is not None:
                self._limit_memory(memory)
            if processes is not None:
                _write(f"{self._directories['pids']}/pids.max", str(processes))
        except BaseException:
            self.remove()
            raise

    def _limit_memory(self, limit: int) -> None:
        directory = self._directories["memory"]
        if self._version == 2:
            _write(f"{directory}/memory.max", str(limit))
            swap = f"{directory}/memory.swap.max", "0"
        else:
            _write(f"{directory}/memory.limit_in_bytes", str(limit))
            swap = f"{directory}/memory.memsw.limit_in_bytes", str(limit)
        # Neither file is there where the kernel does not account swap; a limit that swaps is none.
        if os.path.exists(swap[0]):
            _write(*swap)

    def doors(self) -> list[int]:
        """A descriptor to each directory's cgroup.procs: who holds it may put processes in, with the rights of who opened it."""
        return [os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for directory in sorted(set(self._directories.values()))]

    def counters(self) -> Counters:
        """What the kernel counted so far."""
        memory, pids = self._directories.get("memory", ""), self._directories.get("pids", "")
        peak = read(f"{memory}/{'memory.peak' if self._version == 2 else 'memory.max_usage_in_bytes'}").strip() if memory else ""
        return Counters(
            _field(f"{memory}/{'memory.events' if self._version == 2 else 'memory.oom_control'}", "oom_kill"),
            _field(f"{pids}/pids.events", "max"),
            int(peak) if peak.isdigit() else None,
        )

    def remove(self) -> None:
        """Remove the directories; processes that are still dying are waited for, a second at most."""
        for directory in set(self._directories.values()):
            _remove(directory, deadline=time.monotonic() + 1)
        self._directories.clear()


def _field(path: str, name: str) -> int:
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _make_parent(hierarchy: Hierarchy, parent: str) -> None:
    """Make a session's version 2 group, whose children have controllers as its own parent's have."""
    wanted = " ".join(f"+{controller}" for controller, _ in hierarchy.directories)
    with _alone(os.path.dirname(parent)):
        _enable(os.path.dirname(parent), wanted)
        os.makedirs(parent, exist_ok=True)
        _write(f"{parent}/cgroup.subtree_control", wanted)


def _enable(directory: str, wanted: str) -> None:
    """Let the children of a version 2 group have controllers.

    A group with processes of its own cannot have children with controllers ("no internal processes"), so that they go into a leaf first. With
    controllers that bear threads, as pids does, the kernel would not refuse, but make it a threaded group. The kernel's own group may have both.
    """
    leaf = f"{directory}/{LEAF}"
    # A process that forks while it is moved may leave its child behind: hence more than one round.
    for attempts_left in reversed(range(10)):
        if os.path.exists(f"{directory}/cgroup.type") and read(f"{directory}/cgroup.procs"):
            os.makedirs(leaf, exist_ok=True)
            _move(directory, leaf)
        try:
            _write(f"{directory}/cgroup.subtree_control", wanted)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or not attempts_left:
                raise


def _restore(hierarchy: Hierarchy) -> None:
    """Make a version 2 group what it was before its first session, when the last one has gone."""
    directory = hierarchy.directories[0][1]
    with _alone(directory):
        if [entry.name for entry in os.scandir(directory) if entry.is_dir()] == [LEAF]:
            _write(f"{directory}/cgroup.subtree_control", " ".join(f"-{controller}" for controller, _ in hierarchy.directories))
            _move(f"{directory}/{LEAF}", directory)
            _remove(f"{directory}/{LEAF}", deadline=time.monotonic() + 1)


def _move(source: str, target: str) -> None:
    """Move every process of a version 2 group to another."""
    for pid in read(f"{source}/cgroup.procs").split():
        try:
            _write(f"{target}/cgroup.procs", pid)
        except ProcessLookupError:  # it has ended meanwhile
            continue


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """One session at a time: what one enables, another that ends must not disable before there is a group."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove(directory: str, deadline: float) -> None:
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)


def remove_session(session: str) -> None:
    """Remove every group that a session has left."""
    found = own_hierarchy()
    if found is None:
        return
    for directory in {directory for _, directory in found.directories}:
        session_directory = f"{directory}/{NAME}{session}"
        if os.path.isdir(session_directory):
            for name in os.listdir(session_directory):
                if os.path.isdir(f"{session_directory}/{name}"):
                    _remove(f"{session_directory}/{name}", deadline=time.monotonic() + 2)
            _remove(session_directory, deadline=time.monotonic() + 2)
    if found.version == 2:
        _restore(found)

"""How each declared limit is held on this host: by a control group, by an rlimit, or by the jail's init looking after it."""

from __future__ import annotations

import resource
from typing import NamedTuple

from pytest_nsjail.errors import SetupError, Unsupported
from pytest_nsjail.kernel.cgroup import Group
from pytest_nsjail.kernel.hierarchy import Hierarchy
from pytest_nsjail.spec.limits import Limits

_DELEGATE = (
    "Run pytest where it may make control groups: as root, or 'systemd-run --user --scope -p Delegate=yes pytest', "
    "or in a container with a writable cgroup mount"
)


class Bounds(NamedTuple):
    """The ways of one jail's limits.

    :param rlimits: (RLIMIT_*, soft, hard) of every process.
    :param watch: what the init samples, every few milliseconds.
    :param group: the control group, or None.
    """

    rlimits: tuple[tuple[int, int, int], ...]
    watch: dict[str, int]
    group: Group | None


def bound(limits: Limits, hierarchy: Hierarchy | None, *, session: str, name: str, exempt: bool) -> Bounds:
    """Decide for each limit, the strongest way first.

    :param session: what the control groups of this pytest are named by.
    :param name: this jail's, in the session.
    :param exempt: whether the payload is the host's root by number, whom RLIMIT_NPROC does not bound (getrlimit(2)).
    :raises Unsupported: for a limit that nothing here can hold.
    :raises SetupError: where the kernel refused the control group.
    """
    controllers = dict(hierarchy.directories) if hierarchy else {}
    memory = limits.memory if isinstance(limits.memory, int) else None
    rlimits = []
    watch = {}
    if memory is not None and "memory" not in controllers:
        watch["memory"] = memory
    if limits.processes is not None and "pids" not in controllers:
        if exempt:
            raise Unsupported(
                f"{limits!r}: there is no control group for the number of processes here (an isolated test never has one), "
                "and the kernel exempts root from RLIMIT_NPROC",
                f"{_DELEGATE}; or run the program as somebody else: user=1000",
            )
        rlimits.append((resource.RLIMIT_NPROC, limits.processes, limits.processes))
        watch["processes"] = limits.processes
    if limits.cpu_seconds is not None:
        # SIGXCPU at the first, SIGKILL a second later for who ignores it.
        rlimits.append((resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1))
    if isinstance(limits.file_size, int):
        rlimits.append((resource.RLIMIT_FSIZE, limits.file_size, limits.file_size))
    if limits.open_files is not None:
        rlimits.append((resource.RLIMIT_NOFILE, limits.open_files, limits.open_files))
    group = None
    if hierarchy:
        grouped = memory if "memory" in controllers else None, limits.processes if "pids" in controllers else None
        if any(limit is not None for limit in grouped):
            try:
                group = Group(hierarchy, session, name, memory=grouped[0], processes=grouped[1])
            except OSError as error:
                raise SetupError(f"a control group for {limits!r} at {error.filename or 'its place'}", error.errno, _DELEGATE + ".") from error
    return Bounds(tuple(rlimits), watch, group)

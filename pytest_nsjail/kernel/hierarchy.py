"""Where this process may make control groups: version 2 where it is delegated, version 1 where that is what there is (cgroups(7))."""

from __future__ import annotations

import os
from typing import NamedTuple

NAME = "pytest-nsjail-"
# Where a version 2 group's own processes wait while the group has children: one for all sessions in it.
LEAF = f"{NAME}host"
_CONTROLLERS = ("memory", "pids")


class Hierarchy(NamedTuple):
    """Where groups can be made: the directory of this process's own group, by controller.

    :param version: 1 or 2; version 2 has one directory for both controllers.
    """

    version: int
    directories: tuple[tuple[str, str], ...]

    def directory(self, controller: str) -> str:
        """The directory below which this controller's groups are made; KeyError where it has none."""
        return dict(self.directories)[controller]


def own_hierarchy() -> Hierarchy | None:
    """What this process may make groups in, or None."""
    mounted = _mounted()
    groups = _own_groups()
    if "cgroup2" in mounted and "" in groups:
        # Where a session has moved this process into the leaf, groups are made beside it.
        directory = _directory(mounted["cgroup2"], groups[""]).removesuffix(f"/{LEAF}")
        available = read(f"{directory}/cgroup.controllers").split()
        controllers = [controller for controller in _CONTROLLERS if controller in available]
        # All of these are whose a group is delegated to (Documentation/admin-guide/cgroup-v2.rst, "Model of Delegation").
        if controllers and all(os.access(f"{directory}/{name}", os.W_OK) for name in ("", "cgroup.procs", "cgroup.subtree_control")):
            return Hierarchy(2, tuple((controller, directory) for controller in controllers))
    directories = []
    for controller in _CONTROLLERS:
        if controller in mounted and controller in groups:
            directory = _directory(mounted[controller], groups[controller])
            if os.access(directory, os.W_OK):
                directories.append((controller, directory))
    return Hierarchy(1, tuple(directories)) if directories else None


def _directory(mounted: str, group: str) -> str:
    # A container's cgroup mount starts at its own group, whatever /proc/self/cgroup calls it.
    directory = mounted + group.rstrip("/")
    return directory if os.path.isdir(directory) else mounted


def _mounted() -> dict[str, str]:
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split()[:3]
            path = before.split()[4].replace("\\040", " ")
            if kind == "cgroup2":
                found.setdefault("cgroup2", path)
            elif kind == "cgroup":
                for option in options.split(","):
                    found.setdefault(option, path)
    return found


def _own_groups() -> dict[str, str]:
    found = {}
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def read(path: str) -> str:
    """A file of the kernel's; nothing where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""

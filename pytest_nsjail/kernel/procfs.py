"""What of /proc is not a process's own, and yet writable."""

from __future__ import annotations

import os

# Of processes, or of a namespace that every jail has of its own.
_OWN = ("self", "thread-self", "net", "mounts", "sysvipc")
# Whatever they hold at the moment: a module loaded later adds to them.
_ALWAYS = ("bus", "fs", "irq", "sys", "sysrq-trigger")


def writable_by_root(proc: str = "/proc") -> tuple[str, ...]:
    """The top-level entries that are, or hold, a file with a write bit: the kernel lets uid 0 write many without a capability."""
    found = []
    with os.scandir(proc) as entries:
        for entry in entries:
            if entry.name.isdigit() or entry.name in _OWN or entry.is_symlink():
                continue
            if entry.name in _ALWAYS or _writable(entry):
                found.append(entry.name)
    return tuple(sorted(found))


def _writable(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir(follow_symlinks=False):
        return bool(entry.stat(follow_symlinks=False).st_mode & 0o222)
    try:
        with os.scandir(entry.path) as below:
            return any(_writable(one) for one in below if not one.is_symlink())
    except OSError:
        return True

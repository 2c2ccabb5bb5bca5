"""What of /proc is not a process's own."""

from __future__ import annotations

import os

# The number of the first process after a pid namespace's init.
FIRST = 2
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


def number_next(sysctls: int, pid: int) -> None:
    """Have the next process of this pid namespace numbered ``pid`` where that is free (ns_last_pid, Documentation/admin-guide/sysctl/kernel.rst).

    Best effort: a kernel without CONFIG_CHECKPOINT_RESTORE goes on counting.

    :param sysctls: a descriptor of ``/proc/sys``.
    """
    try:
        fd = os.open("kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC, dir_fd=sysctls)
    except OSError:
        return
    try:
        os.write(fd, str(pid - 1).encode())
    except OSError:
        pass
    finally:
        os.close(fd)


def _writable(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir(follow_symlinks=False):
        return bool(entry.stat(follow_symlinks=False).st_mode & 0o222)
    try:
        with os.scandir(entry.path) as below:
            return any(_writable(one) for one in below if not one.is_symlink())
    except OSError:
        return True

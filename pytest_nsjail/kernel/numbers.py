"""The numbers of the system calls that are older than Linux 5.1, and of some younger ones, which have one number on every architecture."""

from __future__ import annotations

import errno
import os
import sys

# arch/x86/entry/syscalls/syscall_64.tbl, and include/uapi/asm-generic/unistd.h for all younger machines.
_X86_64 = {
    "read": 0, "write": 1, "close": 3, "rt_sigaction": 13, "rt_sigprocmask": 14, "clone": 56, "execve": 59, "chdir": 80, "umask": 95, "setsid": 112,
    "setgroups": 116, "capset": 126, "setresuid": 117, "setresgid": 119, "pivot_root": 155, "prctl": 157, "keyctl": 250, "openat": 257,
    "dup3": 292, "prlimit64": 302, "setns": 308, "nanosleep": 35, "clock_nanosleep": 230, "select": 23, "pselect6": 270,
    "poll": 7, "ppoll": 271, "connect": 42, "sendto": 44, "sendmsg": 46, "seccomp": 317, "mount": 165, "socket": 41, "ioctl": 16,
    "sethostname": 170, "sched_setscheduler": 144, "close_range": 436,
}
_GENERIC = {
    "read": 63, "write": 64, "close": 57, "rt_sigaction": 134, "rt_sigprocmask": 135, "clone": 220, "execve": 221, "chdir": 49, "umask": 166, "setsid": 157,
    "setgroups": 159, "capset": 91, "setresuid": 147, "setresgid": 149, "pivot_root": 41, "prctl": 167, "keyctl": 219, "openat": 56,
    "dup3": 24, "prlimit64": 261, "setns": 268, "nanosleep": 101, "clock_nanosleep": 115, "pselect6": 72, "ppoll": 73,
    "connect": 203, "sendto": 206, "sendmsg": 211, "seccomp": 277, "mount": 40, "socket": 198, "ioctl": 29, "sethostname": 161,
    "sched_setscheduler": 119, "close_range": 436,
}
_NUMBERS = {"x86_64": _X86_64, "aarch64": _GENERIC, "riscv64": _GENERIC, "loongarch64": _GENERIC}


def machine() -> str:
    """This machine, as the kernel and this process both see it.

    :raises OSError: ENOSYS where they do not: uname(2) names the kernel's machine, and a 32-bit process (or x32) has calls of other numbers.
    """
    name = os.uname().machine
    if sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, f"the system calls of a 32-bit process on {name} are not known here")
    return name


def numbers() -> dict[str, int]:
    """The calls' numbers on this machine.

    :raises OSError: ENOSYS for a machine whose numbers are not known here.
    """
    if (here := machine()) not in _NUMBERS:
        raise OSError(errno.ENOSYS, f"the system calls of {here} are not known here")
    return _NUMBERS[here]


def number(call: str) -> int:
    """One call's, see :func:`numbers`."""
    return numbers()[call]

"""The one way to the C library: each call here raises OSError with its name, and no caller ever sees -1."""

from __future__ import annotations

import ctypes
import os
import signal as signals

from pytest_nsjail.kernel.numbers import number

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# include/uapi/linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
PR_SET_NO_NEW_PRIVS = 38

SYS_OPENAT2 = 437


def number_or_raise(result: int, call: str, path: str | bytes | None = None) -> int:
    """What a call returned, or its errno as an OSError that names the call (and the path)."""
    if result >= 0:
        return result
    errno = ctypes.get_errno()
    raise OSError(errno, f"{call}: {os.strerror(errno)}", path)


def libc(name: str, *argtypes: type, restype: type = ctypes.c_int) -> ctypes._NamedFuncPointer:
    """A function of the C library with its signature declared."""
    function = getattr(_libc, name)
    function.argtypes, function.restype = argtypes, restype
    return function  # type: ignore[no-any-return]


def syscall(call: str, number: int, *arguments: int | bytes | ctypes.c_void_p | object, path: str | bytes | None = None) -> int:
    """A call that the C library has no wrapper for; ints go as longs, bytes as pointers."""
    passed = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return number_or_raise(_libc.syscall(ctypes.c_long(number), *passed), call, path)


_unshare = libc("unshare", ctypes.c_int)
_setns = libc("setns", ctypes.c_int, ctypes.c_int)
_prctl = libc("prctl", ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_sethostname = libc("sethostname", ctypes.c_char_p, ctypes.c_size_t)


def unshare(flags: int) -> None:
    """Leave the namespaces named by CLONE_* flags for fresh ones, see unshare(2)."""
    number_or_raise(_unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Enter a namespace (or, by a pidfd, several), see setns(2)."""
    number_or_raise(_setns(fd, flags), "setns")


def prctl(option: int, value: int) -> int:
    """Change a property of this process, see prctl(2)."""
    return number_or_raise(_prctl(option, value, 0, 0, 0), "prctl")


def is_subreaper() -> bool:
    """Whether this process is the parent of who loses its own below it, see PR_GET_CHILD_SUBREAPER(2const)."""
    said = ctypes.c_int()
    prctl(PR_GET_CHILD_SUBREAPER, ctypes.addressof(said))
    return bool(said.value)


def sethostname(name: str) -> None:
    """Name this UTS namespace, see sethostname(2)."""
    encoded = os.fsencode(name)
    number_or_raise(_sethostname(encoded, len(encoded)), "sethostname", name)


def set_process_name(name: str) -> None:
    """What ``ps`` shows as this process's command; the kernel keeps 15 bytes of it."""
    buffer = ctypes.create_string_buffer(os.fsencode(name)[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def forget_signals() -> None:
    """Give every signal its default, and block none: an ignored SIGCHLD or a blocked SIGTERM would be every child's as well.

    By the bare call: the C library keeps 32 and 33 for its threads and refuses them, and yet its posix_spawn(3) leaves both ignored.
    """
    for signal in range(1, 65):
        if signal not in (9, 19):
            # struct sigaction of zeros: SIG_DFL, no flags, nothing blocked.
            syscall("rt_sigaction", number("rt_sigaction"), signal, bytes(64), None, 8)
    signals.pthread_sigmask(signals.SIG_SETMASK, ())


def pivot_root(new_root: str, put_old: str) -> None:
    """Make ``new_root`` the root mount of this namespace, see pivot_root(2)."""
    syscall("pivot_root", number("pivot_root"), os.fsencode(new_root), os.fsencode(put_old), path=new_root)


def forget_arguments() -> None:
    """Blank this process's argument list, so that nobody reads it in ``/proc/PID/cmdline``.

    The kernel reads it from the process's own memory, between the 48th and the 49th field of proc_pid_stat(5).
    """
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)

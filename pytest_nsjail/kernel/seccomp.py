"""A seccomp filter that lets every call pass, and tells somebody else of some of them first: user notification, seccomp_unotify(2).

What is told of is connect(2), and sendto(2) with an address. Not told of: sendmsg(2), whose address no filter can see, and whose every call would
wait; what goes through io_uring(7); and calls by the numbers of another architecture.

Whoever makes a call that is told of waits until it was heard. Since Linux 5.19 only a fatal signal ends that wait once the other has taken notice,
so that older kernels are left alone. Before that, and the other has to get a processor first, a signal whose handler was installed without SA_RESTART
ends the call with EINTR, and it was not made.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from typing import NamedTuple

from pytest_nsjail.kernel.numbers import machine, number
from pytest_nsjail.kernel.spawn import Call
from pytest_nsjail.kernel.syscall import syscall

# include/uapi/linux/seccomp.h
_SET_MODE_FILTER = 1
# SPEC_ALLOW: a filter is no reason to slow the program down. NEW_LISTENER. WAIT_KILLABLE_RECV, Linux 5.19.
_FLAGS = 1 << 2 | 1 << 3 | 1 << 5
_ALLOW, _USER_NOTIF = 0x7FFF0000, 0x7FC00000
_CONTINUE = 1
_RECV, _SEND, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
_SYNC_WAKE_UP = 1
# The id, who, flags; then struct seccomp_data: the call, the architecture, the instruction, six arguments.
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
# include/uapi/linux/audit.h
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3, "loongarch64": 0xC0000102}
# Classic BPF: load a word of seccomp_data, jump if equal, return.
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_CALL, _ARCHITECTURE, _ADDRESS_LOW, _ADDRESS_HIGH = 0, 4, 48, 52
_PIDFD_GETFD = 438


class Told(NamedTuple):
    """A call that is about to be made.

    :param cookie: what the kernel calls it.
    :param thread: who makes it, as the listener's pid namespace numbers threads.
    :param fd: the caller's descriptor.
    :param connects: whether it is connect(2), and not sendto(2).
    :param address: where in the caller's memory the address is; ``length`` how long it is.
    """

    cookie: int
    thread: int
    fd: int
    connects: bool
    address: int
    length: int


class Listener:
    """Hears of the calls of everybody under one filter. As long as somebody is, it must be kept: otherwise they fail with ENOSYS.

    :ivar fd: readable when there is something to hear.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            # Linux 6.6: who waits for the other is woken where that runs.
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError:
            pass

    def hear(self) -> Told | None:
        """The next call; None where whoever made it was interrupted."""
        said = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.fd, _RECV, said)
        except FileNotFoundError:
            return None
        cookie, thread, _, call, _, _, fd, *rest = _NOTIFICATION.unpack(said)
        connects = call == number("connect")
        address, length = rest[:2] if connects else rest[3:5]
        return Told(cookie, thread, fd & 0x7FFFFFFF, connects, address, length)

    def go_on(self, told: Told) -> None:
        """Let a call be made."""
        try:
            fcntl.ioctl(self.fd, _SEND, _RESPONSE.pack(told.cookie, 0, 0, _CONTINUE))
        except FileNotFoundError:  # who made it was killed
            pass


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class _Span(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.POINTER(_Span)), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_char_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
    )


def refusal() -> int:
    """Why there is no such filter here, as an errno; 0 where there is.

    EBUSY, where somebody above is told already, shows only when the filter is installed.
    """
    if machine() not in _ARCHITECTURES:
        return errno.ENOSYS
    try:
        # Of flags that it knows the kernel goes on to the program, which is none.
        syscall("seccomp", number("seccomp"), _SET_MODE_FILTER, _FLAGS, None)
    except OSError as error:
        return 0 if error.errno == errno.EFAULT else error.errno or errno.EINVAL
    return 0


def calls(fd: int) -> list[Call]:
    """What a child does to be under the filter, and to give its listener to who has the other end of a socket; descriptor 0 is to be closed by what
    comes after.

    Where it cannot, it goes on without. The child must have given up new privileges.

    :param fd: the socket, a unix(7) one.
    """
    step, made = "be observed", _make()
    return [
        # The lowest number is free, and so the listener takes it.
        Call(step, "close", (0,), may_fail=True),
        Call(step, "seccomp", (_SET_MODE_FILTER, _FLAGS, ctypes.addressof(made.filter)), may_fail=True),
        Call(step, "sendmsg", (fd, ctypes.addressof(made.message), 0), may_fail=True),
    ]


def borrow(pid: int, fd: int) -> int:
    """Another process's descriptor, as one of ours: pidfd_getfd(2).

    :raises OSError: EBADF where it has none of that number.
    """
    process = os.pidfd_open(pid)
    try:
        return syscall("pidfd_getfd", _PIDFD_GETFD, process, fd, 0)
    finally:
        os.close(process)


class _Made(NamedTuple):
    filter: _Program
    message: _Message


_made: list[_Made] = []


def _make() -> _Made:
    """The filter, and the message that passes on descriptor 0; they stay where they are, for the kernel reads them when a child gets there."""
    if not _made:
        rows = (
            (_LOAD, 0, 0, _ARCHITECTURE),
            (_EQUAL, 0, 7, _ARCHITECTURES[machine()]),  # else: allow
            (_LOAD, 0, 0, _CALL),
            (_EQUAL, 6, 0, number("connect")),  # then: tell
            (_EQUAL, 0, 4, number("sendto")),  # else: allow
            (_LOAD, 0, 0, _ADDRESS_LOW),
            (_EQUAL, 0, 3, 0),  # else: tell
            (_LOAD, 0, 0, _ADDRESS_HIGH),
            (_EQUAL, 0, 1, 0),  # else: tell
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _USER_NOTIF),
        )
        program = _Program(len(rows), b"".join(struct.pack("=HBBI", *row) for row in rows))
        # struct cmsghdr, unix(7): SOL_SOCKET, SCM_RIGHTS, and descriptor 0.
        rights = struct.pack("=Qiii4x", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, 0)
        message = _Message(None, 0, ctypes.pointer(_Span(b"!", 1)), 1, rights, len(rights), 0)
        _made.append(_Made(program, message))
    return _made[0]

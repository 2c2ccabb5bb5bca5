"""A fresh network namespace's own interface, by ioctl: no netlink needed for one flag."""

from __future__ import annotations

import fcntl
import socket
import struct

# netdevice(7)
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_LO_UP = struct.pack("16sh14x", b"lo", _IFF_UP)
# The arguments of socket(2), and of ioctl(2) behind a descriptor, that :func:`loopback_up` is made of.
SOCKET = (int(socket.AF_INET), int(socket.SOCK_DGRAM), 0)
UP = (_SIOCSIFFLAGS, _LO_UP)


def loopback_up() -> None:
    """Set ``lo`` up; the kernel then gives it 127.0.0.1/8 and ::1/128 itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _LO_UP)

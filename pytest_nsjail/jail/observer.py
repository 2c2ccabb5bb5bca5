"""What the programs of a jail try to reach, and nobody is there: seen by its init, before they are refused."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import Any

from pytest_nsjail.errors import Unsupported
from pytest_nsjail.jail import processes
from pytest_nsjail.jail.poll import Poll
from pytest_nsjail.kernel import route, seccomp
from pytest_nsjail.kernel.sock_diag import CLOSE, LISTEN, Diag

_NETLINK_SOCK_DIAG = 4
# sockaddr_in6, the longest that is looked at; ip(7), ipv6(7).
_LONGEST = 28
_DOMAIN = 53
# Of different kinds; a program that tries every port is not to fill this process's memory.
_MOST = 1000
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES)


class Observer:
    """Lets every call pass, whatever befalls here: a program gets what it would get without.

    :param poll: where calls are waited for.
    :ivar off: why nothing is seen, as an errno; 0 where it is, or where nobody is to be observed.
    """

    def __init__(self, poll: Poll) -> None:
        self._poll = poll
        self._attempts: dict[tuple[int, str, str, int, int], list[Any]] = {}
        self._asking: tuple[Diag, socket.socket, int] | None = None
        self.off = 0

    def admit(self, fd: int) -> None:
        """Somebody is under a filter from now on, whose listener this is."""
        listener = seccomp.Listener(fd)
        self._poll.watch(fd, lambda events: self._hear(fd, listener, events))
        if self._asking is None and not self.off:
            try:
                self._ask()
            except Unsupported:
                self.off = errno.EOPNOTSUPP
            except OSError as error:
                self.off = error.errno or errno.EOPNOTSUPP

    def _hear(self, fd: int, listener: seccomp.Listener, events: int) -> None:
        """Look at one call, and let it pass."""
        if not events & select.POLLIN:
            # Nobody is under that filter any more.
            self._poll.forget(fd)
            os.close(fd)
            return
        told = listener.hear()
        if told is None:
            return
        try:
            if not self.off:
                self._look(told)
        except (OSError, ValueError):
            # Who makes it has gone, or its memory is not where it says.
            pass
        finally:
            listener.go_on(told)

    def attempts(self) -> dict[str, Any]:
        """What was seen, for the wire."""
        return {"off": self.off, "attempts": [[*key, *value] for key, value in self._attempts.items()]}

    def _ask(self) -> None:
        diag = Diag(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG))
        # An exact look-up says "none" as well where the kernel cannot tell.
        diag.inet(socket.IPPROTO_TCP, LISTEN)
        diag.inet(socket.IPPROTO_UDP, CLOSE)
        self._asking = diag, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE), os.stat("/proc/self/ns/net").st_ino

    def _look(self, told: seccomp.Told) -> None:
        place = _place(told)
        if place is None or self._asking is None:
            return
        (address, port), (diag, routes, _) = place, self._asking
        try:
            if not (_loopback(address) or route.local(routes, address)):
                return  # somebody else's to refuse
        except OSError as error:
            if error.errno in _UNREACHABLE and (protocol := _protocol(told)):
                self._note(told, protocol, address, port, error.errno or 0)
            return
        # First what needs no look at the socket: TCP is what connects, UDP what is sent.
        if (diag.listener if told.connects else diag.receiver)(address, port) is not None:
            return
        protocol = _protocol(told)
        # To connect a socket of datagrams sends nothing: the C library does it to learn its own address. Its resolver sends, by a call that is not seen.
        resolves = told.connects and port == _DOMAIN and diag.receiver(address, port) is None
        if protocol == ("tcp" if told.connects else "udp") or (protocol == "udp" and resolves):
            self._note(told, protocol, address, port, errno.ECONNREFUSED)

    def _note(self, told: seccomp.Told, protocol: str, address: str, port: int, error: int) -> None:
        assert self._asking is not None
        if os.stat(f"/proc/{told.thread}/ns/net").st_ino != self._asking[2]:
            return  # a network of its own making
        pid = processes.leader(told.thread)
        key = pid, protocol, address, port, error
        if key in self._attempts:
            self._attempts[key][0] += 1
        elif len(self._attempts) < _MOST:
            self._attempts[key] = [1, processes.seen([pid])[0].argv]


def _place(told: seccomp.Told) -> tuple[str, int] | None:
    """The address of a call; None where it is of another family, or several's."""
    memory = os.open(f"/proc/{told.thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        raw = os.pread(memory, min(told.length, _LONGEST), told.address)
    finally:
        os.close(memory)
    family = struct.unpack_from("=H", raw)[0] if len(raw) >= 2 else socket.AF_UNSPEC
    if family == socket.AF_INET and len(raw) >= 8:
        packed = raw[4:8]
    elif family == socket.AF_INET6 and len(raw) >= 24:
        packed = raw[8:24]
        if packed[:12] == bytes(10) + b"\xff\xff":
            family, packed = socket.AF_INET, packed[12:]
    else:
        return None
    if not any(packed):
        # All addresses, as a destination, are this host (RFC 1122, 3.2.1.3).
        packed = packed[:-1] + b"\x01" if family == socket.AF_INET6 else b"\x7f\0\0\x01"
    if packed[0] == 0xFF if family == socket.AF_INET6 else packed[0] >= 224:
        return None
    return socket.inet_ntop(family, packed), int.from_bytes(raw[2:4], "big")


def _loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def _protocol(told: seccomp.Told) -> str | None:
    """Of the socket that a call is made with."""
    with socket.socket(fileno=seccomp.borrow(processes.leader(told.thread), told.fd)) as sock:
        return {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}.get(sock.proto)

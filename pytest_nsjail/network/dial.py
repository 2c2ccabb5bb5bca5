"""Connections into a jail, by sockets that live in it: no port of the host's, no proxy."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Protocol

# What a server that listens on "localhost" may mean, in the order in which it is tried.
LOOPBACK = ("127.0.0.1", "::1")
_AGAIN_SECONDS = 0.002


class Source(Protocol):
    """Where sockets of a jail come from, see :class:`pytest_nsjail.jail.sockets.Sockets`."""

    def make(self, family: int, kind: int = ..., protocol: int = ...) -> socket.socket:
        """A fresh one."""

    def connect(self, path: str, kind: int = ...) -> socket.socket:
        """One that is connected to a path in the jail's root."""

    def listen(self, path: str, kind: int = ..., backlog: int = ...) -> socket.socket:
        """One that listens at a path in the jail's root."""


def family_of(host: str) -> int:
    """The address family of an address in figures."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def dial(source: Source, target: int | str, *, host: str | None, udp: bool, timeout: float | None) -> socket.socket:
    """Connect to a server in the jail.

    :param target: a port; a path in the jail's root; ``@name`` for an abstract name (unix(7)).
    :param host: an address in figures; None: 127.0.0.1 and, where nobody listens there, ::1.
    :param udp: datagrams: nobody has to listen.
    :param timeout: seconds to connect in, and afterwards the socket's own.
    :raises OSError: as connect(2).
    """
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    if isinstance(target, str):
        return _named(source, target, kind, timeout)
    refused: OSError | None = None
    for address in LOOPBACK if host is None else (host,):
        made = source.make(family_of(address), kind)
        try:
            made.settimeout(timeout)
            made.connect((address, target))
            return made
        except ConnectionRefusedError as error:
            made.close()
            refused = refused or error
        except OSError as error:
            made.close()
            # Of two addresses the first one's answer counts, for a kernel may have no IPv6.
            raise refused or error from None
        except BaseException:
            made.close()
            raise
    assert refused is not None
    raise refused


def _named(source: Source, name: str, kind: int, timeout: float | None) -> socket.socket:
    if name.startswith("@"):
        made = source.make(socket.AF_UNIX, kind)
        try:
            made.settimeout(timeout)
            made.connect("\0" + name[1:])
        except BaseException:
            made.close()
            raise
        return made
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            made = source.connect(name, kind)
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), name) from None
            # Its queue of those who wait is full, and nothing tells when it is not.
            time.sleep(_AGAIN_SECONDS)
        else:
            made.settimeout(timeout)
            return made


def listen(source: Source, target: int | str, *, host: str, udp: bool, backlog: int) -> socket.socket:
    """A server's socket in the jail, for a server that is in the test.

    :param target: a port, 0 for any that is free; a path in the jail's root; ``@name`` for an abstract name.
    :param host: the address in figures; an empty one: all of both families.
    :raises OSError: as bind(2).
    """
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    if isinstance(target, str):
        if not target.startswith("@"):
            return source.listen(target, kind, backlog)
        made, address = source.make(socket.AF_UNIX, kind), "\0" + target[1:]
    else:
        made, address = source.make(family_of(host or "::"), kind), (host, target)  # type: ignore[assignment]
    try:
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
        if not isinstance(target, str) and not udp:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        if not udp:
            made.listen(backlog)
    except BaseException:
        made.close()
        raise
    return made

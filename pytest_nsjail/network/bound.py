"""The host's side of published ports, before there is a jail: bound, so that the numbers are known and nobody else can have them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from pytest_nsjail.errors import SetupError
from pytest_nsjail.network.dial import family_of
from pytest_nsjail.network.holders import holder
from pytest_nsjail.spec.publish import Publish


class Bound(NamedTuple):
    """One port.

    :param declared: what was asked for.
    :param sock: it listens already, and whoever connects waits.
    """

    declared: Publish
    sock: socket.socket

    @property
    def address(self) -> tuple[str, int]:
        """Where a client finds it."""
        return self.declared.host, self.sock.getsockname()[1]


def bind(ports: Iterable[Publish]) -> list[Bound]:
    """Bind all, or none.

    :raises SetupError: for a port that is taken, with who has it, where that is to be seen; for one that this user may not have, and for an address that this
        host does not have.
    """
    with ExitStack() as stack:
        found = [Bound(port, stack.enter_context(_bound(port))) for port in ports]
        stack.pop_all()
    return found


def _bound(port: Publish) -> socket.socket:
    family = family_of(port.host)
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM if port.udp else socket.SOCK_STREAM)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if not port.udp:
                # A port whose last connections are just over can be had again.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((port.host, port.outer))
            if not port.udp:
                sock.listen(socket.SOMAXCONN)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        step = f"publish port {port.inner} at {port.host}:{port.outer}"
        raise SetupError(step, error.errno, _advice(port, error.errno or 0)) from error
    return sock


def _advice(port: Publish, number: int) -> str:
    free = f"publish={{{port.inner!r}: 0}} takes any port that is free"
    if number == errno.EADDRINUSE:
        taker = holder(port.host, port.outer, udp=port.udp)
        return f"{taker[0].upper()}{taker[1:]} has it; {free}." if taker else f"{free[0].upper()}{free[1:]}."
    if number == errno.EADDRNOTAVAIL:
        return "The address is none of this host's: leave it out, and it is 127.0.0.1."
    if number == errno.EACCES:
        return f"Ports below net.ipv4.ip_unprivileged_port_start are root's; {free}."
    return ""

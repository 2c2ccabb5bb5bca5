"""One attempt at a server's port in the jail, from the relay: at each address that "localhost" may mean."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from pytest_nsjail.network.dial import LOOPBACK, family_of
from pytest_nsjail.network.loop import Loop
from pytest_nsjail.network.supply import Supply

# include/net/tcp_states.h
_SYN_SENT, _CLOSE = 2, 7

Reached = Callable[[socket.socket | None], None]


class Reach:
    """A connection that is being made.

    :param reached: called with the connected socket, its own, watched by nobody; or with None where nobody listens.
    """

    def __init__(self, loop: Loop, supply: Supply, port: int, reached: Reached) -> None:
        self._loop, self._supply, self._port, self._reached = loop, supply, port, reached
        self._left = list(LOOPBACK)
        self._next()

    def _next(self) -> None:
        if not self._left:
            self._reached(None)
            return
        address = self._left.pop(0)
        self._supply.take(family_of(address), socket.SOCK_STREAM, lambda sock: self._connect(sock, address) if sock else self._next())

    def _connect(self, sock: socket.socket, address: str) -> None:
        code = sock.connect_ex((address, self._port))
        if code == errno.EINPROGRESS:
            # Over loopback the answer is there when the call returns; only who asks again hears it.
            self._look(sock, address)
        else:
            sock.close()  # a kernel without IPv6
            self._next()

    def _look(self, sock: socket.socket, address: str, *, watched: bool = False) -> None:
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state == _SYN_SENT:
            # The server's queue is full, and the kernel asks again in a while.
            if not watched:
                self._loop.watch(sock.fileno(), lambda _: self._look(sock, address, watched=True))
            return
        if watched:
            self._loop.forget(sock.fileno())
        # To ask for the outcome of one that was connected, and has been broken off since, would be to lose what it said.
        code = sock.connect_ex((address, self._port)) if state == _CLOSE else 0
        if code == errno.ECONNREFUSED:
            self._supply.give(sock)
            self._next()
        elif code in (0, errno.ECONNRESET) and sock.getsockname()[1] != self._port:
            self._reached(sock)
        else:
            # It was connected to itself, where the kernel chose the very port that is asked for; or nobody answered.
            sock.close()
            self._next()

"""A published TCP port: who comes is accepted, and waits until somebody listens inside."""

from __future__ import annotations

import select
import socket

from pytest_nsjail.network.ledger import Entry, Ledger
from pytest_nsjail.network.link import Link
from pytest_nsjail.network.reach import Reach
from pytest_nsjail.network.shared import Shared
from pytest_nsjail.network.supply import Supply

# Between two looks whether somebody listens inside, in seconds: the first, the last, and how they grow.
_FIRST, _LAST, _GROWTH = 0.0005, 0.02, 1.5
# How long to leave alone what failed for want of descriptors or memory, in seconds.
_PAUSE = 0.02


class Forward:
    """The port.

    :param listener: listens on the host; its own.
    :param port: inside.
    """

    def __init__(self, shared: Shared, supply: Supply, listener: socket.socket, port: int) -> None:
        listener.setblocking(False)
        # Clients inherit it. What a server sends in two pieces is not to wait in between for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._shared, self._loop, self._room = shared, shared.loop, shared.room
        self._supply, self._listener, self._inside = supply, listener, port
        self.ledger = Ledger()
        self._links: dict[Link, None] = {}
        self._waiting: dict[Link, None] = {}
        self._attempts = 0
        # Whether somebody waits because nobody listens inside; whether it is looked at again, and after how long the next time.
        self._holding, self._looking, self._pause = False, False, _FIRST
        self._over = False
        supply.ahead()
        self._loop.watch(listener.fileno(), self._accept, select.EPOLLIN)

    def close(self) -> None:
        """The jail has ended."""
        if self._over:
            return
        self._over = True
        self._loop.forget(self._listener.fileno())
        # A fork of pytest's may hold a copy, and would keep the port and the clients that nobody accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in list(self._links):
            link.finish()

    def gone(self, link: Link, entry: Entry, end: str) -> None:
        """A client has."""
        del self._links[link]
        self._waiting.pop(link, None)
        self._room.leave()
        self.ledger.leave(entry, end)

    def _accept(self, _: int) -> None:
        if not self._room.enter():
            self._rest()
            return
        try:
            client, address = self._listener.accept()
        except OSError as error:
            self._room.leave()
            if not isinstance(error, (BlockingIOError, ConnectionAbortedError)):
                self._rest()  # ENFILE, ENOBUFS: accept(2)
            return
        client.setblocking(False)
        link = Link(self._shared, self, client, self.ledger.enter(address))
        self._links[link] = None
        self._waiting[link] = None
        if not self._holding:
            self._attempt()

    def _rest(self) -> None:
        """Who cannot be accepted waits in the kernel's queue."""
        self._loop.change(self._listener.fileno(), 0)
        self._loop.later(_PAUSE, lambda: None if self._over else self._loop.change(self._listener.fileno(), select.EPOLLIN))

    def _attempt(self) -> None:
        self._attempts += 1
        Reach(self._loop, self._supply, self._inside, self._reached)

    def _reached(self, inner: socket.socket | None) -> None:
        self._attempts -= 1
        if inner is None:
            self._hold()
            return
        self._holding, self._pause = False, _FIRST
        link = next((link for link in list(self._waiting) if link.waits()), None)
        if link is None:
            inner.close()
            return
        del self._waiting[link]
        link.join(inner)
        self._supply.ahead()
        while self._attempts < len(self._waiting) and not self._holding:
            self._attempt()

    def _hold(self) -> None:
        """Nobody listens yet. One look for all who wait: a refused connection is seen by no server."""
        self._holding = bool(self._waiting)
        if self._holding and not self._looking:
            self._looking = True
            self._loop.later(self._pause, self._look)
            self._pause = min(self._pause * _GROWTH, _LAST)

    def _look(self) -> None:
        self._looking = False
        # Not where somebody has been found to listen meanwhile, or all have left: the connection would be nobody's.
        if self._holding and self._waiting:
            self._attempt()
        else:
            self._holding, self._pause = False, _FIRST

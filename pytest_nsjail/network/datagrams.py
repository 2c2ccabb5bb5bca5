"""A published UDP port. Whoever sends to it gets a socket of his own inside, so that the server's answers find the way back."""

from __future__ import annotations

import select
import socket
import time
from collections import OrderedDict, deque
from typing import Any

from pytest_nsjail.network.dial import LOOPBACK, family_of
from pytest_nsjail.network.ledger import Entry, Ledger
from pytest_nsjail.network.shared import Shared
from pytest_nsjail.network.supply import Supply

# A client that neither sends nor gets anything for so long is forgotten, in seconds, and so is the one that was silent longest when there are too many.
IDLE, CLIENTS = 60.0, 1000
_LARGEST = 1 << 16
_TURNS = 64
# Datagrams of one client that has no socket yet.
_KEPT = 64
Address = tuple[Any, ...]


class Session:
    """One client's."""

    def __init__(self, port: Datagrams, address: Address, entry: Entry) -> None:
        self._port, self._address, self.entry = port, address, entry
        self._socket: socket.socket | None = None
        self._opening = self.over = False
        self._where = 0
        # Each with how many more addresses it may be sent to.
        self._queue: deque[tuple[bytes, int]] = deque(maxlen=_KEPT)
        self._last: tuple[bytes, int] | None = None
        self.active = 0.0

    def send(self, data: bytes) -> None:
        """What the client says. It is lost where nobody listens, as it would be there."""
        self._queue.append((data, len(LOOPBACK) - 1))
        self._flush()

    def close(self, end: str) -> None:
        """Forget it."""
        self.over = True
        self._drop()
        self._port.gone(self, self._address, end)

    def _flush(self) -> None:
        while self._queue and self._socket is not None:
            data, others = self._queue.popleft()
            try:
                self._socket.send(data)
            except ConnectionRefusedError:
                # Of the one before (udp(7)); this one has not been sent.
                self._queue.appendleft((data, others))
                self._refused()
            except OSError:
                pass  # its buffer is full, or it is too large for the jail's network: lost
            else:
                self._last = data, others
                self.entry.moved[0] += len(data)
        if self._queue and not self._opening:
            self._opening = True
            self._port.supply.take(family_of(LOOPBACK[self._where]), socket.SOCK_DGRAM, self._opened)

    def _opened(self, sock: socket.socket | None) -> None:
        self._opening = False
        try:
            if sock is not None and not self.over:
                sock.connect((LOOPBACK[self._where], self._port.inside))
                self._socket, sock = sock, None
        except OSError:
            pass  # a kernel without IPv6
        finally:
            if sock is not None:
                sock.close()
        if self._socket is None:
            self._queue.clear()
            self._where = 0
        else:
            self._port.loop.watch(self._socket.fileno(), self._hear)
            self._flush()

    def _hear(self, _: int) -> None:
        for _ in range(_TURNS):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                self._refused()
                self._flush()
                return
            self._last = None
            if self._port.answer(self, self._address, data):
                self.entry.moved[1] += len(data)
        self._port.loop.soon(lambda: self._hear(0))

    def _refused(self) -> None:
        """Nobody listens at this address. What was sent there last is tried at the other."""
        last, self._last = self._last, None
        if last is not None:
            data, others = last
            self.entry.moved[0] -= len(data)
            if others:
                self._queue.appendleft((data, others - 1))
                self._drop()
                self._where = 1 - self._where

    def _drop(self) -> None:
        if self._socket is not None:
            self._port.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None


class Datagrams:
    """The port.

    :param outer: bound on the host; its own.
    :param inside: the port of the jail.
    """

    def __init__(self, shared: Shared, supply: Supply, outer: socket.socket, inside: int) -> None:
        outer.setblocking(False)
        self.loop, self.supply, self.inside, self._room, self._outer = shared.loop, supply, inside, shared.room, outer
        self.ledger = Ledger()
        # The one that was silent longest first.
        self._sessions: OrderedDict[Address, Session] = OrderedDict()
        self._sweeping = self._over = False
        self.loop.watch(outer.fileno(), self._hear, select.EPOLLIN)

    def close(self) -> None:
        """The jail has ended."""
        if not self._over:
            self._over = True
            self.loop.forget(self._outer.fileno())
            self._outer.close()
            for session in list(self._sessions.values()):
                session.close("the jail ended")

    def gone(self, session: Session, address: Address, end: str) -> None:
        """A client is forgotten."""
        del self._sessions[address]
        self._room.leave()
        self.ledger.leave(session.entry, end)

    def answer(self, session: Session, address: Address, data: bytes) -> bool:
        """What the server says to a client; whether it is on its way."""
        self._touch(session, address)
        try:
            self._outer.sendto(data, address)
        except OSError:
            return False  # its buffer is full
        return True

    def _hear(self, _: int) -> None:
        for _ in range(_TURNS):
            try:
                data, address = self._outer.recvfrom(_LARGEST)
            except OSError:
                return
            if session := self._session(address):
                self._touch(session, address)
                session.send(data)

    def _session(self, address: Address) -> Session | None:
        session = self._sessions.get(address)
        if session is None:
            entered = len(self._sessions) < CLIENTS and self._room.enter()
            if not entered:
                if not self._sessions:
                    return None
                next(iter(self._sessions.values())).close("displaced")
                if not self._room.enter():
                    return None
            session = self._sessions[address] = Session(self, address, self.ledger.enter(address))
            if not self._sweeping:
                self._sweeping = True
                self.loop.later(IDLE, self._sweep)
        return session

    def _touch(self, session: Session, address: Address) -> None:
        session.active = time.monotonic()
        self._sessions.move_to_end(address)

    def _sweep(self) -> None:
        """Forget who has been silent; then come again when the next one will have been."""
        now = time.monotonic()
        while self._sessions and (first := next(iter(self._sessions.values()))).active + IDLE <= now:
            first.close("idle")
        self._sweeping = bool(self._sessions)
        if self._sweeping:
            self.loop.later(first.active + IDLE - now, self._sweep)

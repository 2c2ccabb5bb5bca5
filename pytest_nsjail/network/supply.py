"""Sockets of one jail's network for the relay: asked of the jail's init (:mod:`pytest_nsjail.jail.agent`), which is never waited for."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from pytest_nsjail.kernel import wire
from pytest_nsjail.network.loop import Loop

Got = Callable[[socket.socket | None], None]
# Questions that are under way: more could fill the channel, and to write to it would be to wait.
_AT_ONCE = 32
# Sockets that are asked for when none is left: the init's answer costs as much as all the rest of a connection.
_AHEAD = 8


class _Asked(NamedTuple):
    """One question.

    :param got: for one socket; None: all are for whoever comes.
    """

    family: int
    kind: int
    got: Got | None


class Supply:
    """Where the relay's inner sockets come from.

    Some that are not needed yet are kept ready, so that a client need not wait for the init.

    :param channel: to the init.
    :param ended: called when the jail has ended.
    """

    def __init__(self, loop: Loop, channel: socket.socket, ended: Callable[[], None]) -> None:
        channel.setblocking(False)
        self._loop, self._channel, self._ended = loop, channel, ended
        self._asked: deque[_Asked] = deque()
        self._waiting: deque[_Asked] = deque()
        self._spare: dict[int, list[socket.socket]] = {socket.AF_INET: [], socket.AF_INET6: []}
        self._ordered = False
        self.over = False
        loop.watch(channel.fileno(), self._answered)

    def take(self, family: int, kind: int, got: Got) -> None:
        """Have ``got`` called with a fresh socket, that does not block and is its own; with None where there is none to be had."""
        if kind == socket.SOCK_STREAM and self._spare[family]:
            got(self._spare[family].pop())
        elif self.over:
            got(None)
        else:
            self._ask(_Asked(family, kind, got))

    def give(self, sock: socket.socket) -> None:
        """A stream's socket that nobody needs: as good as a fresh one."""
        spare = self._spare[sock.family]
        if self.over or len(spare) >= _AHEAD:
            sock.close()
        else:
            spare.append(sock)

    def ahead(self) -> None:
        """Have sockets ready for the next clients."""
        if not self._spare[socket.AF_INET] and not self._ordered:
            self._ordered = True
            self._ask(_Asked(socket.AF_INET, socket.SOCK_STREAM, None))

    def close(self) -> None:
        """Ask no more; whoever waits gets None."""
        if self.over:
            return
        self.over = True
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        for spare in self._spare.values():
            while spare:
                spare.pop().close()
        for asked in (*self._asked, *self._waiting):
            if asked.got:
                asked.got(None)
        self._asked.clear()
        self._waiting.clear()

    def _ask(self, *asked: _Asked) -> None:
        self._waiting += asked
        try:
            while self._waiting and len(self._asked) < _AT_ONCE:
                family, kind, got = self._waiting[0]
                body = {"do": "socket", "kind": (family, kind | socket.SOCK_NONBLOCK, 0), "count": 1 if got else _AHEAD}
                wire.send(self._channel, body)
                self._asked.append(self._waiting.popleft())
        except OSError:
            pass  # the jail has ended, and the channel's end of file says so in a moment

    def _answered(self, _: int) -> None:
        while not self.over:
            try:
                said = wire.receive(self._channel)
            except BlockingIOError:
                return
            except OSError:  # no descriptor is free here: who asked tries again
                said = wire.Received({}, [], 0)
            if said is None:
                self._ended()
                return
            asked = self._asked.popleft()
            self._ask()
            made = [_socket(asked.family, asked.kind, fd) for fd in said.fds]
            if asked.got:
                asked.got(made[0] if made else None)
            else:
                self._ordered = False
                for sock in made:
                    self.give(sock)


def _socket(family: int, kind: int, fd: int) -> socket.socket:
    # It does not block as the init made it; this tells Python, with no call.
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, 0, fd)
    if kind == socket.SOCK_STREAM:
        # What a client sends in two pieces is not to wait in between for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock

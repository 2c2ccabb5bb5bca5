"""Sockets of one jail's network for the relay: asked of the jail's init (:mod:`pytest_nsjail.jail.agent`), which is never waited for."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from pytest_nsjail.kernel import wire
from pytest_nsjail.network.loop import Loop

Got = Callable[[socket.socket | None], None]
# Questions that are under way: more could fill the channel, and to write to it would be to wait.
_AT_ONCE = 32


class Supply:
    """Where the relay's inner sockets come from.

    One that is not needed yet is kept ready, so that a client need not wait for the init's answer.

    :param channel: to the init.
    :param ended: called when the jail has ended.
    """

    def __init__(self, loop: Loop, channel: socket.socket, ended: Callable[[], None]) -> None:
        channel.setblocking(False)
        self._loop, self._channel, self._ended = loop, channel, ended
        self._asked: deque[tuple[int, int, Got]] = deque()
        self._waiting: deque[tuple[int, int, Got]] = deque()
        self._spare: dict[int, socket.socket] = {}
        self.over = False
        loop.watch(channel.fileno(), self._answered)

    def take(self, family: int, kind: int, got: Got) -> None:
        """Have ``got`` called with a fresh socket, that does not block and is its own; with None where there is none to be had."""
        if kind == socket.SOCK_STREAM and family in self._spare:
            got(self._spare.pop(family))
        elif self.over:
            got(None)
        else:
            self._waiting.append((family, kind, got))
            self._ask()

    def give(self, sock: socket.socket) -> None:
        """A stream's socket that nobody needs: as good as a fresh one."""
        if self.over or sock.family in self._spare:
            sock.close()
        else:
            self._spare[sock.family] = sock

    def ahead(self) -> None:
        """Have a socket ready for the next client."""
        if socket.AF_INET not in self._spare:
            self.take(socket.AF_INET, socket.SOCK_STREAM, lambda sock: self.give(sock) if sock else None)

    def close(self) -> None:
        """Ask no more; whoever waits gets None."""
        if self.over:
            return
        self.over = True
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        for sock in self._spare.values():
            sock.close()
        self._spare.clear()
        for *_, got in (*self._asked, *self._waiting):
            got(None)
        self._asked.clear()
        self._waiting.clear()

    def _ask(self) -> None:
        try:
            while self._waiting and len(self._asked) < _AT_ONCE:
                family, kind, _ = self._waiting[0]
                wire.send(self._channel, {"do": "socket", "kind": (family, kind | socket.SOCK_NONBLOCK, 0)})
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
            family, kind, got = self._asked.popleft()
            self._ask()
            got(_socket(family, kind, said.fds[0]) if said.fds else None)


def _socket(family: int, kind: int, fd: int) -> socket.socket:
    # It does not block as the init made it; this tells Python, with no call.
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, 0, fd)
    if kind == socket.SOCK_STREAM:
        # What a client sends in two pieces is not to wait in between for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock

"""One client of a published TCP port: it on one side, the jail's server on the other, and bytes in between."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from pytest_nsjail.network.buffers import bound
from pytest_nsjail.network.ledger import Entry
from pytest_nsjail.network.pipes import SIZE, Pipe
from pytest_nsjail.network.shared import Shared

if TYPE_CHECKING:
    from pytest_nsjail.network.forward import Forward

# How long to leave alone what failed for want of descriptors, in seconds.
_PAUSE = 0.02
# How long a client may take to read what is left when the jail has ended, in seconds.
_DRAIN = 10.0
# Within so long a kernel delivers what can be delivered, in seconds.
_BREATH = 0.2
# So many turns of one flow, and the others have theirs.
_TURNS = 8
_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_RESET = struct.pack("ii", 1, 0)


class Flow:
    """Bytes in one direction. No more of them are on their way in here than a pipe holds.

    :param tally: where they are counted, and at which place.
    """

    def __init__(self, link: Link, source: socket.socket, sink: socket.socket, tally: tuple[list[int], int]) -> None:
        self._link, self._source, self._sink, self._tally = link, source, sink, tally
        self._from, self._to = source.fileno(), sink.fileno()
        self._pipe: Pipe | None = None
        self._held = 0
        self._ended = False
        self.done = False

    @property
    def stuck(self) -> bool:
        """Whether the sink has to be waited for."""
        return self._held > 0

    def pump(self) -> None:
        """Move what is there, until one of the two has to be waited for."""
        link = self._link
        if self.done or link.over:
            return
        pipe = self._pipe or link.pipes.take()
        if pipe is None:
            link.loop.later(_PAUSE, self.pump)
            return
        self._pipe = pipe
        try:
            for _ in range(_TURNS):
                # Only into an empty pipe: else EAGAIN could mean that it is full.
                if not self._held:
                    side = self._source
                    self._held = os.splice(self._from, pipe.into, SIZE, flags=os.SPLICE_F_NONBLOCK)
                    if not self._held:
                        self._ended = True
                        break
                side = self._sink
                moved = os.splice(pipe.out, self._to, self._held, flags=os.SPLICE_F_NONBLOCK)
                self._held -= moved
                self._tally[0][self._tally[1]] += moved
            else:
                link.loop.soon(self.pump)
            if self._ended and not link.breaking:
                side = self._sink
                self.done = True
                if not link.finished():
                    self._sink.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.release()
            link.broken(side, heard=side is self._source)
            return
        if not self._held:
            self.release()
        if self.done and link.finished():
            link.close("closed")

    def release(self) -> None:
        """Give back the pipe; what is in it is lost."""
        if self._pipe is not None:
            pipe, self._pipe = self._pipe, None
            self._link.pipes.give(pipe, empty=not self._held)


class Link:
    """One client, and what it is connected to inside once somebody listens there."""

    def __init__(self, shared: Shared, port: Forward, client: socket.socket, entry: Entry) -> None:
        self._shared, self._port, self._client, self._entry = shared, port, client, entry
        self.loop, self.pipes = shared.loop, shared.pipes
        self._inner: socket.socket | None = None
        # Whether it will say no more than it has said while it waited.
        self._finished = False
        self._flows: tuple[Flow, ...] = ()
        self.breaking = self._last = False
        self.over = False
        self.loop.watch(client.fileno(), self._of_client)

    def waits(self) -> bool:
        """Whether it is still there, when somebody listens at last; else it has been closed."""
        if self._finished:
            self._look()
        return not self.over

    def join(self, inner: socket.socket) -> None:
        """Somebody listens."""
        self._inner = inner
        for sock in (self._client, inner):
            bound(sock)
        moved = self._entry.moved
        self._flows = Flow(self, self._client, inner, (moved, 0)), Flow(self, inner, self._client, (moved, 1))
        self.loop.watch(inner.fileno(), self._of_inner)
        # What it said while it waited, and nobody tells of that again.
        self._flows[0].pump()

    def finished(self) -> bool:
        """Whether nobody has anything more to say."""
        return self._flows[1].done and (self._flows[0].done or self._last)

    def broken(self, side: socket.socket, *, heard: bool) -> None:
        """One side has broken off: so does the other.

        :param heard: whether what it said before was moved.
        """
        if self.over or self.breaking:
            return
        self.breaking = True
        inner = side is self._inner
        if not heard:
            self._flows[inner].pump()
        self.reset("reset by the server" if inner else "reset by the client")

    def reset(self, end: str) -> None:
        """Break it off (RST)."""
        if self.over:
            return
        for sock in (self._client, self._inner):
            if sock is not None:
                # socket(7): with a linger of no time, closing it is breaking it off.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close(end)

    def finish(self) -> None:
        """The jail has ended: what its server said to the end is still told, and everybody else broken off."""
        if self._inner is None:
            self.reset("the jail ended")
            return
        self._last = True
        self._flows[1].pump()
        if self.over:
            return
        if self.finished():
            self.close("closed")
        else:
            self._drain(time.monotonic() + _DRAIN)

    def _drain(self, until: float) -> None:
        """Wait as long as the client has something to read.

        A server that is dead has closed its end, and the kernel sends what it said, and that it says no more, as fast as that is read. Only an end that
        somebody outside of the jail holds stays silent.
        """
        before = self._entry.moved[1]

        def look() -> None:
            going_on = not self.over and (self._flows[1].stuck or self._entry.moved[1] != before)
            if going_on and time.monotonic() < until:
                self._drain(until)
            else:
                self.reset("the jail ended")

        self.loop.later(_BREATH, look)

    def _of_client(self, events: int) -> None:
        if self._flows:
            self._hear(self._client, 0, events)
        elif events & select.EPOLLERR:
            self.close("left")
        elif events & _GONE:
            self._finished = True
            self._look()

    def _of_inner(self, events: int) -> None:
        assert self._inner is not None
        self._hear(self._inner, 1, events)

    def _hear(self, sock: socket.socket, number: int, events: int) -> None:
        """:param number: of the flow that it is the source of."""
        if events & (select.EPOLLIN | _GONE):
            self._flows[number].pump()
        if events & select.EPOLLOUT and self._flows[not number].stuck:
            self._flows[not number].pump()
        if events & (select.EPOLLERR | select.EPOLLHUP) and not self.over and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.broken(sock, heard=True)

    def _look(self) -> None:
        """Leave who has left. Who has asked and closed only its half waits for the answer."""
        try:
            asked = self._client.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            asked = b""
        if not asked or self._shared.abandoned(self._client):
            self.close("left")

    def close(self, end: str) -> None:
        """Let go of both sides."""
        self.over = True
        for flow in self._flows:
            flow.release()
        for sock in (self._client, self._inner):
            if sock is not None:
                self.loop.closing(sock.fileno())
                sock.close()
        self._port.gone(self, self._entry, end)

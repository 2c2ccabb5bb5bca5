"""A published TCP port: clients of the host on one side, the jail's server on the other, and bytes in between."""

from __future__ import annotations

import os
import select
import socket
import struct

from pytest_nsjail.network.ledger import Entry, Ledger
from pytest_nsjail.network.loop import Loop
from pytest_nsjail.network.pipes import SIZE, Pipe, Pipes
from pytest_nsjail.network.reach import Reach
from pytest_nsjail.network.room import Room
from pytest_nsjail.network.supply import Supply

# Between two looks whether somebody listens inside, in seconds: the first, the last, and how they grow.
_FIRST, _LAST, _GROWTH = 0.0005, 0.02, 1.5
# How long to leave alone what failed for want of descriptors or memory, in seconds.
_PAUSE = 0.02
# How long a client may take to read what is left when the jail has ended, in seconds.
_DRAIN = 10.0
# So many turns of one flow, and the others have theirs.
_TURNS = 8
_ACCEPTED = 64
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
                self._sink.shutdown(socket.SHUT_WR)
                self.done = True
        except BlockingIOError:
            pass
        except OSError:
            self.release()
            link.broken(side, heard=side is self._source)
            return
        if not self._held:
            self.release()
        if self.done:
            link.ended()

    def release(self) -> None:
        """Give back the pipe; what is in it is lost."""
        if self._pipe is not None:
            pipe, self._pipe = self._pipe, None
            self._link.pipes.give(pipe, empty=not self._held)


class Link:
    """One client, and what it is connected to inside once somebody listens there."""

    def __init__(self, port: Forward, client: socket.socket, entry: Entry) -> None:
        self._port, self._client, self._entry = port, client, entry
        self.loop, self.pipes = port.loop, port.pipes
        self._inner: socket.socket | None = None
        self._flows: tuple[Flow, ...] = ()
        self.breaking = self._last = False
        self.over = False
        self.loop.watch(client.fileno(), self._of_client)

    def join(self, inner: socket.socket) -> None:
        """Somebody listens."""
        self._inner = inner
        moved = self._entry.moved
        self._flows = Flow(self, self._client, inner, (moved, 0)), Flow(self, inner, self._client, (moved, 1))
        self.loop.watch(inner.fileno(), self._of_inner)
        # What it said while it waited, and nobody tells of that again.
        self._flows[0].pump()

    def ended(self) -> None:
        """One direction has."""
        if all(flow.done for flow in self._flows) or (self._last and self._flows[1].done):
            self._close("closed")

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
        self._close(end)

    def finish(self) -> None:
        """The jail has ended: what its server said to the end is still told, and everybody else broken off."""
        if self._inner is None:
            self.reset("the jail ended")
            return
        self._last = True
        self._flows[1].pump()
        if self.over:
            return
        if self._flows[1].done:
            self._close("closed")
        elif _has_finished(self._inner):
            self.loop.later(_DRAIN, lambda: self.reset("the jail ended"))
        else:
            self.reset("the jail ended")

    def _of_client(self, events: int) -> None:
        if self._flows:
            self._hear(self._client, 0, events)
        elif events & _GONE:
            self._look(events)

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

    def _look(self, events: int) -> None:
        """Whether who waits has left: broken off, or said nothing and will say nothing. Who has asked and only closed its half waits for the answer."""
        try:
            if events & select.EPOLLERR or not self._client.recv(1, socket.MSG_PEEK):
                self._close("left")
        except BlockingIOError:
            pass
        except OSError:
            self._close("left")

    def _close(self, end: str) -> None:
        self.over = True
        for flow in self._flows:
            flow.release()
        for sock in (self._client, self._inner):
            if sock is not None:
                self.loop.forget(sock.fileno())
                sock.close()
        self._port.gone(self, self._entry, end)


class Forward:
    """The port.

    :param listener: listens on the host; its own.
    :param port: inside.
    """

    def __init__(self, loop: Loop, supply: Supply, pipes: Pipes, room: Room, listener: socket.socket, port: int) -> None:
        listener.setblocking(False)
        # Clients inherit it. What a server sends in two pieces is not to wait in between for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.loop, self.pipes, self._supply, self._room = loop, pipes, supply, room
        self._listener, self._inside = listener, port
        self.ledger = Ledger()
        self._links: dict[Link, None] = {}
        self._waiting: dict[Link, None] = {}
        self._attempts = 0
        # Whether somebody waits because nobody listens inside; whether it is looked at again, and after how long the next time.
        self._holding, self._looking, self._pause = False, False, _FIRST
        self.over = False
        supply.ahead()
        loop.watch(listener.fileno(), self._accept, select.EPOLLIN)

    def close(self) -> None:
        """The jail has ended."""
        if self.over:
            return
        self.over = True
        self.loop.forget(self._listener.fileno())
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
        for _ in range(_ACCEPTED):
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
            link = Link(self, client, self.ledger.enter(address))
            self._links[link] = None
            self._waiting[link] = None
            if not self._holding:
                self._attempt()

    def _rest(self) -> None:
        """Who cannot be accepted waits in the kernel's queue."""
        self.loop.change(self._listener.fileno(), 0)
        self.loop.later(_PAUSE, lambda: None if self.over else self.loop.change(self._listener.fileno(), select.EPOLLIN))

    def _attempt(self) -> None:
        self._attempts += 1
        Reach(self.loop, self._supply, self._inside, self._reached)

    def _reached(self, inner: socket.socket | None) -> None:
        self._attempts -= 1
        if inner is None:
            self._hold()
        elif self._waiting:
            self._holding, self._pause = False, _FIRST
            link = next(iter(self._waiting))
            del self._waiting[link]
            self._supply.ahead()
            link.join(inner)
            while self._attempts < len(self._waiting):
                self._attempt()
        else:
            inner.close()

    def _hold(self) -> None:
        """Nobody listens yet. One look for all who wait: a refused connection is seen by no server."""
        self._holding = bool(self._waiting)
        if not self._holding:
            self._pause = _FIRST
        elif not self._looking:
            self._looking = True
            self.loop.later(self._pause, self._look)
            self._pause = min(self._pause * _GROWTH, _LAST)

    def _look(self) -> None:
        self._looking = False
        if self._waiting:
            self._attempt()
        else:
            self._hold()


def _has_finished(sock: socket.socket) -> bool:
    """Whether the peer has said that it says no more, be that read or not."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))

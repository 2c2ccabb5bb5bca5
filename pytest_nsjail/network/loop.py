"""What the relay waits for: descriptors, and moments."""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections import deque
from collections.abc import Callable

# Edges, not levels: a descriptor is registered once, and no call is needed to say that one does not want to hear of it for a while. Whoever is called goes
# on until the kernel says EAGAIN, or asks to be called again.
EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_EVENTS = 256


class Loop:
    """One thread's."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._called: dict[int, Callable[[int], None]] = {}
        self._moments: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()

    def watch(self, fd: int, call: Callable[[int], None], events: int = EDGES) -> None:
        """Have ``call`` called with what is so of a descriptor (EPOLL*), until it is closed.

        It may be called for nothing: where a descriptor was closed, and its number used again, since the kernel was asked.
        """
        self._called[fd] = call
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Other events, for a descriptor that is watched."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Watch it no more."""
        if self._called.pop(fd, None):
            self._epoll.unregister(fd)

    def closing(self, fd: int) -> None:
        """As :meth:`forget`, of what is closed next and is nobody else's: then the kernel forgets it by itself (epoll(7))."""
        self._called.pop(fd, None)

    def soon(self, call: Callable[[], None]) -> None:
        """When all others had their turn."""
        self._soon.append(call)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Once, in a while."""
        heapq.heappush(self._moments, (time.monotonic() + seconds, next(self._order), call))

    def turn(self) -> None:
        """Wait for something to happen, and have everybody called whom it concerns."""
        for fd, events in self._epoll.poll(self._patience(), _EVENTS):
            if call := self._called.get(fd):
                call(events)
        for _ in range(len(self._soon)):
            self._soon.popleft()()
        if self._moments:
            now = time.monotonic()
            while self._moments and self._moments[0][0] <= now:
                heapq.heappop(self._moments)[2]()

    def _patience(self) -> float | None:
        if self._soon:
            return 0
        return max(0.0, self._moments[0][0] - time.monotonic()) if self._moments else None

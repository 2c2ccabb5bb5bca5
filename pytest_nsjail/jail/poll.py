"""What an init waits for: descriptors, and whom it concerns."""

from __future__ import annotations

import select
from collections.abc import Callable

Call = Callable[[int], None]


class Poll:
    """poll(2)."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._called: dict[int, Call] = {}

    def watch(self, fd: int, call: Call, events: int = select.POLLIN) -> None:
        """Have ``call`` called with what is so of a descriptor, as long as it is so: one of ``events``, POLLHUP or POLLERR."""
        self._called[fd] = call
        self._poll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Watch it no more, where it is watched."""
        if self._called.pop(fd, None):
            self._poll.unregister(fd)

    def wait(self, seconds: float | None) -> None:
        """Until something is so of any, or the time is over; None: for as long as it takes."""
        for fd, events in self._poll.poll(None if seconds is None else seconds * 1000):
            # One that came before may have had it forgotten.
            if call := self._called.get(fd):
                call(events)

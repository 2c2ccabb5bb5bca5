"""What a published port remembers of its clients."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

# Of each port, besides those who are there.
PAST = 10_000


class Entry:
    """One client, as long as it is there.

    :ivar moved: bytes that it sent, and bytes that it got.
    """

    __slots__ = ("_began", "_clock", "_peer", "moved")

    def __init__(self, peer: tuple[str, int]) -> None:
        self._peer, self._began, self._clock = peer, time.time(), time.monotonic()
        self.moved = [0, 0]

    def told(self, end: str | None) -> list[Any]:
        """The arguments of a :class:`pytest_nsjail.network.published.Client`."""
        return [self._peer, self._began, time.monotonic() - self._clock, *self.moved, end]


class Ledger:
    """All clients of one port, the oldest of those who have gone forgotten."""

    def __init__(self) -> None:
        self._present: dict[Entry, None] = {}
        self._past: deque[list[Any]] = deque(maxlen=PAST)

    def enter(self, address: tuple[Any, ...]) -> Entry:
        """A client came.

        :param address: from accept(2) or recvfrom(2), of either family.
        """
        entry = Entry(address[:2])
        self._present[entry] = None
        return entry

    def leave(self, entry: Entry, end: str) -> None:
        """A client has gone."""
        del self._present[entry]
        self._past.append(entry.told(end))

    def told(self, end: str | None = None) -> list[list[Any]]:
        """Everybody, in the order in which they came.

        :param end: of those who are still there.
        """
        return sorted([*self._past, *(entry.told(end) for entry in self._present)], key=lambda told: float(told[1]))

"""How many clients the relay can serve at once."""

from __future__ import annotations

import resource


class Room:
    """The descriptors of this process, shared by all ports.

    A client takes two, and four more only as long as somebody does not read; a third of all is left for those.
    """

    def __init__(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._free = (hard - 64) // 3 if hard != resource.RLIM_INFINITY else 1 << 20

    def enter(self) -> bool:
        """Whether there is room for one more; it is taken then."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def leave(self) -> None:
        """One has gone."""
        self._free += 1

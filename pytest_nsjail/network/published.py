"""Published ports, as a test sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Client:
    """Who connected to a published port; of a port of datagrams, an address that sent some.

    :param peer: its address and port, on the host.
    :param began: when it came, as :func:`time.time` gives it.
    :param seconds: how long it was there, or has been so far.
    :param received: bytes that it sent into the jail.
    :param sent: bytes that it got out of it.
    :param end: None as long as it is there; ``closed``: both sides said all that they had to say; ``reset by the client``, ``reset by the server``; ``left``:
        before anybody listened inside; ``the jail ended``; and of datagrams ``idle``, for a minute, and ``displaced``, by a newer one: a thousand are kept.
    """

    peer: tuple[str, int]
    began: float
    seconds: float
    received: int
    sent: int
    end: str | None


class Published:
    """One published port.

    :ivar address: host and port where a client finds it.
    """

    def __init__(self, address: tuple[str, int], told: Callable[[], list[list[Any]]]) -> None:
        self.address = address
        self._told = told

    @property
    def clients(self) -> tuple[Client, ...]:
        """Everybody who connected, in that order; of those who have gone, the last 10,000.

        :raises SetupError: where the relay is gone.
        """
        return tuple(Client(tuple(peer), *rest) for peer, *rest in self._told())

    def __repr__(self) -> str:
        return f"<Published {self.address[0]}:{self.address[1]}>"

"""One jail in a network."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_nsjail.network.dial import Source

if TYPE_CHECKING:
    from pytest_nsjail.network.endpoint import Endpoint
    from pytest_nsjail.network.network import Network

# A private network (RFC 1918), and a unique local one (RFC 4193); the jails of every network are counted from 1 on.
V4 = ipaddress.IPv4Network("10.77.0.0/16")
V6 = ipaddress.IPv6Network("fd4e:534a:4149:4c::/64")
MOST = V4.num_addresses - 2


class Place(Source, Protocol):
    """Where sockets of a jail come from, and who changes its network, see :class:`pytest_nsjail.jail.sockets.Sockets`."""

    def namespace(self) -> int:
        """A descriptor of its network namespace."""

    def configure(self, packet: bytes, namespace: int | None = ...) -> list[tuple[int, int]]:
        """Make changes to it."""

    def hosts(self, text: str) -> None:
        """Give it names."""

    def emulate(self, number: int, ends: tuple[str, str], treatment: tuple[float, float, float, int] | None) -> None:
        """Carry frames between two of its interfaces."""


class Addresses(NamedTuple):
    """What a member is reached by: of IPv4 and of IPv6, in figures."""

    v4: str
    v6: str


@dataclass(frozen=True, eq=False)
class Member:
    """A jail, as its network knows it; unlike any other, also of the same name.

    :param number: the how-manieth that joined.
    :param host: the how-manieth name: who has a name again has its addresses again.
    :param hostname: the jail's name for itself.
    """

    network: Network
    name: str
    number: int
    host: int
    hostname: str
    endpoint: Endpoint
    place: Place

    @property
    def addresses(self) -> Addresses:
        """Its own in this network."""
        return Addresses(str(V4[self.host]), str(V6[self.host]))

    @property
    def hardware(self) -> bytes:
        """The address of its interface: one of those that nobody has to be asked for (IEEE 802, locally administered)."""
        return b"\x02nsj" + self.host.to_bytes(2, "big")

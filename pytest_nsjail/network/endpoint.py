"""A jail as a test meets it over the network."""

from __future__ import annotations

import socket as sockets
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pytest_nsjail.errors import JailEnded, NsjailError, SpecError
from pytest_nsjail.network import dial, observed
from pytest_nsjail.network.observed import Connection, Listener, Process
from pytest_nsjail.network.published import Published
from pytest_nsjail.network.redirect import redirected
from pytest_nsjail.spec import check
from pytest_nsjail.spec.publish import Inner

if TYPE_CHECKING:
    from pytest_nsjail.network.member import Addresses, Member

Socket = sockets.socket
# Seconds that a connection may take, unless told.
TIMEOUT = 10.0


class NobodyListens(ConnectionRefusedError):
    """In a jail that was dialled."""


class Ports(dict[Inner, tuple[str, int]]):
    """Published ports; one that is not says what would publish it."""

    def __missing__(self, inner: Inner) -> tuple[str, int]:
        raise KeyError(f"{inner!r} is not published; write publish={{{inner!r}: 0}} where the jail is started")


class Endpoint:
    """What can be reached of a jail, by sockets that live in its network.

    :param source: where they come from.
    :ivar published: its published ports, by what the declaration calls them (``6379``, ``"53/udp"``), with who connected to them.
    """

    def __init__(self, source: dial.Source, published: Mapping[Inner, Published]) -> None:
        self._source = source
        self.published = published
        self._member: Member | None = None

    @property
    def ports(self) -> Mapping[Inner, tuple[str, int]]:
        """Where its published ports are found from the host, for clients that make their own sockets: ``redis.Redis(*jail.ports[6379])``.

        Whoever connects before its server listens waits until it does.
        """
        return Ports((inner, port.address) for inner, port in self.published.items())

    @property
    def addresses(self) -> Addresses:
        """What the others in its network reach it by.

        :raises SpecError: where it is in none.
        """
        if self._member is None:
            raise SpecError(f"the address of {self!r}", "it shares its network with nobody", "Start it with network=nsjail_network().")
        return self._member.addresses

    @property
    def address(self) -> str:
        """The same for IPv4 alone, in figures."""
        return self.addresses.v4

    def dial(self, target: int | str, *, host: str | None = None, udp: bool = False, timeout: float | None = TIMEOUT) -> Socket:
        """Connect to a server in it.

        :param target: a port; a path in its root; ``@name`` for an abstract unix socket (unix(7)).
        :param host: an address in figures; None: 127.0.0.1 and, where nobody listens there, ::1.
        :param udp: whether datagrams are to be sent; of a path or a name, whether its socket is one of datagrams.
        :param timeout: seconds to connect in, and afterwards the socket's own (:meth:`socket.socket.settimeout`).
        :return: the connected socket; the caller closes it.
        :raises OSError: as connect(2): ConnectionRefusedError where nobody listens.
        :raises JailEnded: where it has ended.
        """
        place, address = self._target("dial", target), host and check.address("dial()", "host", host)
        try:
            return dial.dial(self._source, place, host=address, udp=udp, timeout=timeout)
        except ConnectionRefusedError as error:
            said = f"{error.strerror}: nobody listens on {target!r} in the jail; {self._who_listens()}"
            raise NobodyListens(error.errno, said, error.filename) from None

    def _who_listens(self) -> str:
        try:
            found = ", ".join(map(str, self.listeners()))
        except (NsjailError, OSError) as error:
            return f"who does is not known: {error}"
        return f"who does: {found}" if found else "nor does anybody anywhere else"

    def socket(self, family: int = sockets.AF_INET, type: int = sockets.SOCK_STREAM, proto: int = 0) -> Socket:
        """A fresh socket that lives in its network, as :class:`socket.socket`.

        :raises OSError: as socket(2).
        :raises JailEnded: where it has ended.
        """
        return self._source.make(family, type, proto)

    def listen(self, target: int | str, *, host: str = "", udp: bool = False, backlog: int = sockets.SOMAXCONN) -> Socket:
        """A server's socket in its network, for a server of the test's that the program inside is to find.

        :param target: a port, 0 for any that is free; a path in its root; ``@name`` for an abstract unix socket.
        :param host: the address in figures; an empty one: all of both families.
        :param udp: a socket of datagrams, that is bound.
        :raises OSError: as bind(2): EADDRINUSE where the program has the port.
        :raises JailEnded: where it has ended.
        """
        place = self._target("listen", target) if target != 0 else 0
        return dial.listen(self._source, place, host=host and check.address("listen()", "host", host), udp=udp, backlog=backlog)

    def sockets(self) -> AbstractContextManager[None]:
        """Let code of this process that opens its own sockets (urllib, http.client, asyncio, requests) talk inside of it, unmodified::

            with jail.sockets():
                urllib.request.urlopen(jail.url(8080))

        Every socket of the internet families that any thread makes meanwhile lives in its network; those there are stay where they are. Clients that
        are no Python (libpq, grpc) are not meant: publish the port for them.
        """
        return redirected(self._source, self._names)

    def url(self, port: int, path: str = "/", scheme: str = "http") -> str:
        """A URL of a server in it, for code that runs in it, or within :meth:`sockets`."""
        return f"{scheme}://127.0.0.1:{check.port('url()', 'it', port)}{path}"

    def listeners(self) -> tuple[Listener, ...]:
        """Who listens in it, TCP, UDP and unix sockets: at what address, and which process. None once it has ended.

        :raises Unsupported: where this kernel cannot tell (sock_diag(7)).
        """
        try:
            with observed.ask(self._source) as diag:
                return observed.listeners(diag, self._holders, shared=self._shared)
        except JailEnded:
            return ()

    def connections(self) -> tuple[Connection, ...]:
        """Who is connected in it, and to what, likewise; those that one end has closed and the other has not are among them."""
        try:
            with observed.ask(self._source) as diag:
                return observed.connections(diag, self._holders, shared=self._shared)
        except JailEnded:
            return ()

    @property
    def _shared(self) -> bool:
        """Whether its network is others' as well."""
        return False

    def _holders(self, inodes: Iterable[int]) -> Mapping[int, Process]:
        """Who in it has which socket."""
        return {}

    def _names(self) -> Mapping[str, tuple[str, ...]]:
        """Host names that mean something in it."""
        return self._member.network.names() if self._member else {}

    def _target(self, method: str, target: object) -> int | str:
        if not isinstance(target, str):
            return check.port(f"{method}({target!r})", "it", target)
        declaration = f"{method}({target!r})"
        if target.startswith("@"):
            return check.text(declaration, "the name", target)
        if not target.startswith("/"):
            raise SpecError(declaration, f"{target!r} is no port, no path and no @name", "Write a number, '/run/server.sock' or '@name'.")
        return check.inside(declaration, "the path", target)

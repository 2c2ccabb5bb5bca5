"""Several jails on one switch, and what a test does to them."""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import NamedTuple

from pytest_nsjail.errors import SetupError, SpecError
from pytest_nsjail.network.endpoint import Endpoint
from pytest_nsjail.network.member import MOST, Addresses, Member, Place
from pytest_nsjail.network.switch import Switch
from pytest_nsjail.spec.network import NetworkSpec, Shape

_LOCALHOST = ("127.0.0.1", "::1")
# A jail, or its name.
Named = Endpoint | str


class Fault(NamedTuple):
    """What was done to a network.

    :param moment: in seconds since the network was made.
    :param what: in words.
    """

    moment: float
    what: str

    def __str__(self) -> str:
        return f"{self.moment:8.3f} s: {self.what}"


class Network:
    """A switch that jails are started on: ``nsjail_start(..., network=net, name="db")``. They reach each other, by name, and nothing else.

    Each sees the names of all others, as ``db`` and ``db.net1``, for IPv4 and IPv6 and in this order, in its ``/etc/hosts``; who joins under a name
    that another one had before has that one's addresses. What is done to a network lies outside of its jails, and no program in them can undo it.

    :param spec: its declaration.
    :param place: an init without a program, in a network namespace of its own.
    :param end: ends that init.
    :raises SetupError: where the kernel makes no switch.
    """

    def __init__(self, spec: NetworkSpec, place: Place, end: Callable[[], None]) -> None:
        self.spec = spec
        self._end = end
        self._switch = Switch(place)
        self._began = time.monotonic()
        self._members: dict[str, Member] = {}
        self._hosts: dict[str, int] = {}
        self._joined = 0
        self._log: list[Fault] = []
        self._lock = threading.RLock()
        self.closed = False

    # Who is in it

    @property
    def name(self) -> str:
        """What it is called."""
        return self.spec.name

    @property
    def members(self) -> Mapping[str, Endpoint]:
        """The jails in it by their names, in the order in which they joined."""
        with self._lock:
            return MappingProxyType({name: member.endpoint for name, member in self._members.items()})

    @property
    def addresses(self) -> Mapping[str, Addresses]:
        """What each is reached by: ``net.addresses["db"].v4``."""
        with self._lock:
            return MappingProxyType({name: member.addresses for name, member in self._members.items()})

    @property
    def log(self) -> tuple[Fault, ...]:
        """What was done to it, in order."""
        return tuple(self._log)

    def names(self) -> dict[str, tuple[str, ...]]:
        """Every host name that means something in it, and the addresses."""
        with self._lock:
            return {called: tuple(member.addresses) for member in self._members.values() for called in self._called(member)}

    def join(self, endpoint: Endpoint, place: Place, *, name: str | None, hostname: str) -> Member:
        """Put a jail on the switch, before its program starts; :meth:`leave` it again.

        :param name: unlike any other's; None: one by its number.
        :param hostname: the jail's own name for itself.
        :raises SpecError: for a name that another one has, and where the network is closed.
        :raises SetupError: where the kernel gives it no link.
        """
        with self._lock:
            self._alive(f"nsjail_start(..., network={self.name!r})")
            member = self._plugged(endpoint, place, name, hostname)
            self._members[member.name] = member
            self._tell()
            return member

    def leave(self, member: Member) -> None:
        """A jail that ends: its name is free, and means nothing any more."""
        with self._lock:
            if self._members.get(member.name) is not member:
                return
            del self._members[member.name]
            try:
                self._switch.unplug(member)
                self._tell()
            except SetupError:
                pass  # the switch is gone, and everybody's link with it

    def close(self) -> None:
        """End it; jails that are still in it have no link any more."""
        with self._lock:
            if not self.closed:
                self.closed = True
                self._members.clear()
                self._switch.close()
                self._end()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Network {self.name!r}: {'closed' if self.closed else ', '.join(self._members) or 'nobody in it'}>"

    # What is done to it

    def partition(self, *groups: Iterable[Named] | Named) -> None:
        """Let jails reach those of their own group alone: ``net.partition({a}, {b, c})``.

        Those that no group names are a group of their own, and so are those that join from now on, with them. It replaces a partition that there was. No
        jail notices but by what does not arrive: connections stay, and go on after :meth:`heal`.

        :param groups: jails, or their names.
        :raises SpecError: for a jail that is not in this network, or in two groups.
        """
        with self._lock:
            declaration = f"partition() of the network {self.name!r}"
            self._alive(declaration)
            chosen = [[self._member(declaration, one) for one in ([group] if isinstance(group, (Endpoint, str)) else group)] for group in groups]
            twice = [member.name for member, times in Counter(member for group in chosen for member in group).items() if times > 1]
            if twice:
                raise SpecError(declaration, f"{', '.join(twice)} is named twice", "Put each jail into one group.")
            self._switch.split(chosen)
            self._note("partition: " + " | ".join(", ".join(member.name for member in part) for part in self._switch.parts()))

    def isolate(self, jail: Named) -> None:
        """Let a jail reach nobody, and nobody it; the others stay as they are.

        :raises SpecError: for a jail that is not in this network.
        """
        with self._lock:
            declaration = f"isolate() of the network {self.name!r}"
            self._alive(declaration)
            alone = self._member(declaration, jail)
            self._switch.part(alone)
            self._note(f"isolate: {alone.name}")

    def heal(self) -> None:
        """Let every jail reach all others again: the end of :meth:`partition` and :meth:`isolate`. What :meth:`shape` did stays."""
        with self._lock:
            self._alive(f"heal() of the network {self.name!r}")
            self._switch.split([])
            self._note("heal")

    def shape(
        self, jail: Named, *, delay: float = 0.0, jitter: float = 0.0, loss: float = 0.0, rate: int | str | None = None, seed: int = 0,
    ) -> None:
        """Make a jail's link worse than it is, in both directions; without more than the jail, as it was. It replaces what was said of it before.

        What is lost or delayed is a frame as the kernel hands it on: of TCP up to 64 KiB. Frames of neighbour discovery (ARP) are never lost, only delayed.
        A frame that is on its way at the moment of the change may be lost, or arrive twice.

        :param delay: seconds that a packet takes longer, each way.
        :param jitter: seconds by which that varies, up and down, evenly; packets may then overtake each other.
        :param loss: the share that is lost, 0 to 1.
        :param rate: bits a second: an int, or digits with K, M or G, by thousands.
        :param seed: the same packets in the same order meet the same losses and delays again, from this call on. (A burst may be out of order itself: it
            is sent on several processors, or waits in part for a neighbour's address.)
        :raises SpecError: for a value that cannot be meant, or a jail that is not in this network.
        :raises SetupError: for a rate that this kernel cannot hold to.
        """
        declaration = f"shape() of the network {self.name!r}"
        shape = Shape.declared(declaration, delay=delay, jitter=jitter, loss=loss, rate=rate, seed=seed)
        with self._lock:
            self._alive(declaration)
            member = self._member(declaration, jail)
            self._switch.shape(member, shape)
            self._note(f"shape: {member.name}: {shape}")

    # How

    def _alive(self, declaration: str) -> None:
        if self.closed:
            raise SpecError(declaration, "it was closed", "A network lives as long as what gave it: a test, or a session.")

    def _free(self, name: str) -> None:
        declaration = f"nsjail_start(..., network={self.name!r}, name={name!r})"
        if name.lower() in (other.lower() for other in self._members):
            raise SpecError(declaration, f"the name {name!r} is another jail's in this network", "Choose another one, or stop() that jail first.")
        if name.lower() == "localhost":
            raise SpecError(declaration, "every jail calls itself 'localhost'", "Choose another name.")

    def _member(self, declaration: str, jail: object) -> Member:
        for member in self._members.values():
            if member.endpoint is jail or member.name == jail:
                return member
        raise SpecError(declaration, f"{jail!r} is not in it", f"In it are {', '.join(self._members) or 'no jails'}.")

    def _plugged(self, endpoint: Endpoint, place: Place, name: str | None, hostname: str) -> Member:
        while True:
            self._joined += 1
            called = name or f"jail{self._joined}"
            self._free(called)
            host = self._hosts.setdefault(called.lower(), len(self._hosts) + 1)
            if host > MOST:
                raise SetupError(f"an address in the network {self.name}: all {MOST} are given")
            member = Member(self, called, self._joined, host, hostname, endpoint, place)
            try:
                self._switch.plug(member)
            except SetupError as error:
                # A test in a process of its own counts by itself, and what it numbered may still be there when the next one begins.
                if error.errno != errno.EEXIST:
                    raise
            else:
                return member

    def _called(self, member: Member) -> tuple[str, str]:
        return member.name, f"{member.name}.{self.name}"

    def _tell(self) -> None:
        """Give every jail the names of all."""
        lines = [f"{address}\tlocalhost\n" for address in _LOCALHOST]
        lines += [f"{address}\t{' '.join(self._called(member))}\n" for member in self._members.values() for address in member.addresses]
        for member in self._members.values():
            own = "" if member.hostname == member.name else "".join(f"{address}\t{member.hostname}\n" for address in member.addresses)
            try:
                member.place.hosts("".join(lines) + own)
            except SetupError:
                pass  # it has ended, and nobody in it reads any more

    def _note(self, what: str) -> None:
        self._log.append(Fault(time.monotonic() - self._began, what))

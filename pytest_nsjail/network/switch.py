"""The switch of a network: a namespace of its own, in which the other end of every jail's link is a port of a bridge.

Whatever is done to a link is done there, or to the jail's end by the jail's init: no program in a jail has power over either. Ports of one bridge see each
other; a network is partitioned by as many bridges as it has parts, and its jails never lose their carrier.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

from pytest_nsjail.errors import SetupError
from pytest_nsjail.kernel import rtnetlink
from pytest_nsjail.kernel.rtnetlink import Change
from pytest_nsjail.network.member import V4, V6, Member, Place
from pytest_nsjail.spec.network import Shape

# Index numbers of interfaces. A jail's own begins above those that a kernel gives to every namespace by itself (lo; sit0 and its like).
_OWN, _BRIDGES, _PORTS, _INNER, _OUTER = 100, 100, 1 << 20, 2 << 20, 3 << 20

# Neither a delay nor a rate; and what the kernel may have refused a part of.
_AT_ONCE: tuple[float, int | None] = (0.0, None)
_UNKNOWN: tuple[float, int | None] = (-1.0, None)
_TBF = "A rate takes the kernel's module sch_tbf."

# How long the kernel may take to let packets through an interface, in seconds; a worker of its own needs less than one, however busy.
_SETTLED = 10.0


class Switch:
    """Everything that is done in the kernel for one network.

    :param place: an init without a program, in a network namespace of its own.
    :raises SetupError: where the kernel makes no bridge.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._v6 = _has_ipv6(place)
        self._bridges = 0
        # Where each jail's link is, by the number of the bridge, and where that of the next one will be.
        self._at: dict[Member, int] = {}
        self._open = self._bridge()
        self._namespace = place.namespace()
        self._queues: dict[Member, tuple[float, int | None]] = {}
        # Those whose frames pass the emulator, and those that have had the interfaces for that at any time.
        self._emulated: set[Member] = set()
        self._cabled: set[Member] = set()

    def close(self) -> None:
        """Make no more changes."""
        os.close(self._namespace)

    def plug(self, member: Member) -> None:
        """Give a jail a link and its addresses; it reaches those that are in no group."""
        port = _PORTS + member.number
        addresses = [rtnetlink.address(_OWN, member.addresses.v4, V4.prefixlen)]
        addresses += [rtnetlink.address(_OWN, member.addresses.v6, V6.prefixlen)] if self._v6 else []
        link = rtnetlink.cable(_OWN, "eth0", port, f"p{member.number}", address=member.hardware, elsewhere=True)
        self._change(member.place, [link, *self._up(_OWN), *addresses], self._namespace)
        self._change(self._place, [rtnetlink.port_of(port, _BRIDGES + self._open), *self._up(port)], settled=[port])
        self._settle(member.place, _OWN)
        self._at[member] = self._open

    def unplug(self, member: Member) -> None:
        """A jail's link lets nothing pass any more; it goes with the jail, soon."""
        # Refused where the jail, and its link, went before.
        self._place.configure(rtnetlink.packet([rtnetlink.deaf(self._attached(member))]))
        del self._at[member]
        self._queues.pop(member, None)
        self._emulated.discard(member)
        self._cabled.discard(member)

    def parts(self) -> list[list[Member]]:
        """Who can reach whom."""
        return [[member for member, at in self._at.items() if at == bridge] for bridge in dict.fromkeys(self._at.values())]

    def split(self, groups: Iterable[list[Member]]) -> None:
        """Give each group a bridge, and one to those that are in none and to newcomers; as many as can be stay where they are."""
        groups = [group for group in groups if group]
        rest = [member for member in self._at if not any(member in group for group in groups)]
        unused = list(range(self._bridges))
        for group, bridge in [(group, self._nearest(group, unused)) for group in sorted([*groups, rest], key=len, reverse=True)]:
            moved = [member for member in group if self._at[member] != bridge]
            if moved:
                moves = [rtnetlink.port_of(self._attached(member), _BRIDGES + bridge) for member in moved]
                self._change(self._place, moves, gone=True)
                self._at.update(dict.fromkeys(moved, bridge))
            if group is rest:
                self._open = bridge

    def part(self, alone: Member) -> None:
        """Give one jail a bridge of its own; the groups of the others stay."""
        groups = [part for part in self.parts() if self._at[part[0]] != self._open]
        self.split([[alone], *([member for member in group if member is not alone] for group in groups)])

    def shape(self, member: Member, shape: Shape) -> None:
        """What befalls a jail's packets from now on."""
        # What is drawn by lot is drawn here, so that it can be drawn again; a delay alone is the kernel's, where it has netem.
        drawn = bool(shape.loss or shape.jitter)
        kernels = 0.0 if drawn or not self._netem else shape.delay
        if drawn or shape.delay != kernels:
            self._emulate(member, shape)
        elif member in self._emulated:
            self._release(member)
        self._queue(member, kernels, shape.rate)

    @cached_property
    def _netem(self) -> bool:
        """Whether the kernel has netem(8): tried at a bridge, which sends nothing itself."""
        return not self._place.configure(rtnetlink.packet([rtnetlink.late(_BRIDGES, 0.001), rtnetlink.at_once(_BRIDGES)]))

    def _queue(self, member: Member, delay: float, rate: int | None) -> None:
        """What both ends of a jail's link send, later and slower."""
        before = self._queues.get(member, _AT_ONCE)
        if before == (delay, rate):
            return
        self._queues[member] = _UNKNOWN
        for place, index in ((self._place, _PORTS + member.number), (member.place, _OWN)):
            if before != _AT_ONCE:
                # Refused where there is none, for the kernel refused that before.
                place.configure(rtnetlink.packet([rtnetlink.at_once(index)]))
            changes = [rtnetlink.late(index, delay)] if delay else []
            changes += [rtnetlink.rate(index, rate, delayed=delay > 0)] if rate is not None else []
            if changes:
                self._change(place, changes, advice=_TBF)
        self._queues[member] = delay, rate

    def _bridge(self) -> int:
        number, self._bridges = self._bridges, self._bridges + 1
        index = _BRIDGES + number
        self._change(self._place, [rtnetlink.bridge(index, f"br{number}"), *self._up(index)])
        return number

    def _nearest(self, group: Iterable[Member], unused: list[int]) -> int:
        """The bridge that most of a group are at, of those that no other group has; a new one where all are taken."""
        for bridge, _ in Counter(self._at[member] for member in group).most_common():
            if bridge in unused:
                unused.remove(bridge)
                return bridge
        return unused.pop() if unused else self._bridge()

    def _emulate(self, member: Member, shape: Shape) -> None:
        port, inner, outer = _PORTS + member.number, _INNER + member.number, _OUTER + member.number
        names = f"i{member.number}", f"o{member.number}"
        if member not in self._cabled:
            self._change(self._place, [rtnetlink.cable(inner, names[0], outer, names[1]), *self._up(inner), *self._up(outer)], settled=[inner, outer])
            self._cabled.add(member)
        if member not in self._emulated:
            # The new port first: the other way round the bridge would know nobody for a moment.
            self._change(self._place, [rtnetlink.port_of(outer, _BRIDGES + self._at[member]), rtnetlink.port_of(port, 0)])
            self._emulated.add(member)
        try:
            self._place.emulate(member.number, (f"p{member.number}", names[0]), (shape.delay, shape.jitter, shape.loss, shape.seed))
        except OSError as error:
            self._release(member)
            raise SetupError(f"sockets at interface p{member.number} (packet(7))", error.errno) from error

    def _release(self, member: Member) -> None:
        self._place.emulate(member.number, ("", ""), None)
        back = rtnetlink.port_of(_PORTS + member.number, _BRIDGES + self._at[member])
        self._change(self._place, [back, rtnetlink.port_of(_OUTER + member.number, 0)], gone=True)
        self._emulated.discard(member)

    def _attached(self, member: Member) -> int:
        """What is the port of a bridge for a jail."""
        return (_OUTER if member in self._emulated else _PORTS) + member.number

    def _up(self, index: int) -> list[Change]:
        return [*([rtnetlink.silent(index)] if self._v6 else []), rtnetlink.up(index)]

    def _settle(self, place: Place, *indexes: int) -> None:
        """Wait until what is sent through interfaces, both of whose ends are up, arrives."""
        packet, deadline = rtnetlink.packet([rtnetlink.carried(index) for index in indexes]), time.monotonic() + _SETTLED
        while refused := place.configure(packet):
            number, error = refused[0]
            if error != errno.EAGAIN or time.monotonic() > deadline:
                raise SetupError(f"packets through interface {indexes[number - 1]}", error)
            time.sleep(0.001)

    def _change(
        self, place: Place, changes: Sequence[Change], namespace: int | None = None, advice: str = "", *, gone: bool = False, settled: Sequence[int] = (),
    ) -> None:
        """Make changes.

        :param gone: whether an interface may have gone, with its jail.
        :param settled: interfaces, both of whose ends are up then, that packets have to pass by the end.
        """
        changes, again = [*changes, *map(rtnetlink.carried, settled)], False
        for number, error in place.configure(rtnetlink.packet(changes), namespace):
            if settled and error == errno.EAGAIN:
                again = True
            elif not (gone and error == errno.ENODEV):
                raise SetupError(changes[number - 1].what, error, advice)
        if again:
            self._settle(place, *settled)


def _has_ipv6(place: Place) -> bool:
    try:
        place.make(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True

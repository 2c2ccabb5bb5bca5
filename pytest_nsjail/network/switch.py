"""The switch of a network: a namespace of its own, in which the other end of every jail's link is a port of a bridge.

Whatever is done to a link is done at that end, out of every jail's reach. Ports of one bridge see each other; a network is partitioned by as many
bridges as it has parts, and its jails never lose their carrier.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from pytest_nsjail.errors import SetupError
from pytest_nsjail.kernel import rtnetlink
from pytest_nsjail.kernel.rtnetlink import Change
from pytest_nsjail.network.member import V4, V6, Member, Place
from pytest_nsjail.spec.network import Shape

# Index numbers of interfaces. A jail's own begins above those that a kernel gives to every namespace by itself (lo; sit0 and its like).
_OWN, _BRIDGES, _PORTS, _INNER, _OUTER = 100, 100, 1 << 20, 2 << 20, 3 << 20

_TBF = "A rate takes the kernel's module sch_tbf."


class Switch:
    """Everything that is done in the kernel for one network.

    :param place: an init without a program, in a network namespace of its own.
    :raises SetupError: where the kernel makes no bridge.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._v6 = _has_ipv6(place)
        self._bridges = 0
        self._shapes: dict[Member, Shape] = {}
        # Those whose frames pass the emulator, and those that have had the interfaces for that at any time.
        self._emulated: set[Member] = set()
        self._cabled: set[Member] = set()
        self.bridge()

    def bridge(self) -> int:
        """One more bridge: its number, from 0."""
        number, self._bridges = self._bridges, self._bridges + 1
        index = _BRIDGES + number
        self._change(self._place, [rtnetlink.bridge(index, f"br{number}"), *self._up(index)])
        return number

    def plug(self, member: Member, bridge: int) -> None:
        """Give a jail a link, its other end a port of a bridge, and its addresses."""
        port, namespace = _PORTS + member.number, member.place.namespace()
        try:
            link = rtnetlink.cable(port, f"p{member.number}", _OWN, "eth0", master=_BRIDGES + bridge, address=member.hardware, elsewhere=True)
            self._change(self._place, [link, *self._up(port)], namespace)
        finally:
            os.close(namespace)
        addresses = [rtnetlink.address(_OWN, member.addresses.v4, V4.prefixlen)]
        addresses += [rtnetlink.address(_OWN, member.addresses.v6, V6.prefixlen)] if self._v6 else []
        self._change(member.place, [*self._up(_OWN), *addresses])

    def unplug(self, member: Member) -> None:
        """A jail's link lets nothing pass any more; it goes with the jail, soon."""
        self._shapes.pop(member, None)
        self._emulated.discard(member)
        self._cabled.discard(member)
        # Refused where the jail, and its link, went before.
        self._place.configure(rtnetlink.packet([rtnetlink.deaf(self._attached(member))]))

    def move(self, members: Sequence[Member], bridge: int) -> None:
        """Make the links of jails ports of another bridge."""
        moves = [rtnetlink.port_of(self._attached(member), _BRIDGES + bridge) for member in members]
        self._change(self._place, moves, gone=True)

    def shape(self, member: Member, shape: Shape, bridge: int) -> None:
        """What befalls a jail's packets from now on.

        :param bridge: the one that its link is at.
        """
        if shape.emulated:
            self._emulate(member, shape, bridge)
        elif member in self._emulated:
            self._release(member, bridge)
        before = self._shapes.get(member, Shape())
        if shape.rate != before.rate:
            for place, index in ((self._place, _PORTS + member.number), (member.place, _OWN)):
                self._change(place, [rtnetlink.rate(index, shape.rate) if shape.rate else rtnetlink.no_rate(index)], advice=_TBF)
        self._shapes[member] = shape

    def _emulate(self, member: Member, shape: Shape, bridge: int) -> None:
        port, inner, outer = _PORTS + member.number, _INNER + member.number, _OUTER + member.number
        names = f"i{member.number}", f"o{member.number}"
        if member not in self._cabled:
            self._change(self._place, [rtnetlink.cable(inner, names[0], outer, names[1]), *self._up(inner), *self._up(outer)])
            self._cabled.add(member)
        if member not in self._emulated:
            # The new port first: the other way round the bridge would know nobody for a moment.
            self._change(self._place, [rtnetlink.port_of(outer, _BRIDGES + bridge), rtnetlink.port_of(port, 0)])
            self._emulated.add(member)
        try:
            self._place.emulate(member.number, (f"p{member.number}", names[0]), (shape.delay, shape.jitter, shape.loss, shape.seed))
        except OSError as error:
            self._release(member, bridge)
            raise SetupError(f"sockets at interface p{member.number} (packet(7))", error.errno) from error

    def _release(self, member: Member, bridge: int) -> None:
        self._place.emulate(member.number, ("", ""), None)
        self._change(self._place, [rtnetlink.port_of(_PORTS + member.number, _BRIDGES + bridge), rtnetlink.port_of(_OUTER + member.number, 0)])
        self._emulated.discard(member)

    def _attached(self, member: Member) -> int:
        """What is the port of a bridge for a jail."""
        return (_OUTER if member in self._emulated else _PORTS) + member.number

    def _up(self, index: int) -> list[Change]:
        return [*([rtnetlink.silent(index)] if self._v6 else []), rtnetlink.up(index)]

    def _change(self, place: Place, changes: Sequence[Change], namespace: int | None = None, advice: str = "", gone: bool = False) -> None:
        """Make changes.

        :param gone: whether an interface may have gone, with its jail.
        """
        for number, error in place.configure(rtnetlink.packet(changes), namespace):
            if gone and error == errno.ENODEV:
                continue
            raise SetupError(changes[number - 1].what, error, advice)


def _has_ipv6(place: Place) -> bool:
    try:
        place.make(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True

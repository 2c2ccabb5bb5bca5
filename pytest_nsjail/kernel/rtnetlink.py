"""Links, addresses and queues of a network namespace: rtnetlink(7), many changes in one packet.

Most functions here give a change as a value; :func:`perform` has the kernel make all of a packet's in one call. The index numbers of interfaces are
the caller's choice, so that nothing has to be asked for. By hand, and not by a library: the import of one takes longer than most tests.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

# include/uapi/linux/netlink.h
_ERROR, _REQUEST, _ACK, _EXCLUSIVE, _REPLACE, _CREATE = 2, 0x1, 0x4, 0x200, 0x100, 0x400
_HEADER = struct.Struct("=IHHII")
_ROOM = 1 << 16
# include/uapi/linux/rtnetlink.h
_LINK = struct.Struct("=BxHiII")
_NEWLINK, _GETLINK, _SETLINK, _NEWADDR, _NEWQDISC, _DELQDISC = 16, 18, 19, 20, 36, 37
# include/uapi/linux/if_link.h
_ADDRESS, _NAME, _MASTER, _PROTINFO, _OPERSTATE, _LINKINFO, _AF_SPEC, _NET_NS_FD = 1, 3, 10, 12, 16, 18, 26, 28
_KIND, _DATA, _PEER = 1, 2, 1
_MULTICAST_ROUTER, _MULTICAST_SNOOPING = 22, 23
_PORT_STATE, _DISABLED = 1, 0
_ADDR_GEN_MODE, _GENERATE_NONE = 8, 1
_UP = 1
# include/uapi/linux/if.h
_OPER_UP = 6
# include/uapi/linux/if_addr.h: no duplicate address detection, which keeps an address from being used for 1.7 s
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _NODAD = 1, 2, 8, 0x2
# include/uapi/linux/pkt_sched.h
_ROOT, _QDISC_KIND, _QDISC_OPTIONS, _TBF_PARMS, _TBF_RATE64, _TBF_BURST, _ETHERNET = 0xFFFFFFFF, 1, 2, 1, 4, 6, 1
_NETEM, _NETEM_LIMIT, _NETEM_LATENCY64 = 0x10000, 100_000, 10
_AF_BRIDGE = 7
_NESTED = 0x8000


class Change(NamedTuple):
    """One message.

    :param what: in words, for an error.
    """

    what: str
    message: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to the next (netlink(7), rtattr)."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


# Where a namespace is meant whose descriptor only the process that performs the change has; no descriptor is negative.
NAMESPACE = attribute(_NET_NS_FD, struct.pack("=i", -1))


def in_namespace(packet: bytes, fd: int) -> bytes:
    """The same changes, with a descriptor for :data:`NAMESPACE`."""
    return packet.replace(NAMESPACE, attribute(_NET_NS_FD, struct.pack("=i", fd)))


def _change(what: str, kind: int, flags: int, body: bytes) -> Change:
    return Change(what, _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 0, 0) + body)


def _link(index: int, flags: int = 0, family: int = 0) -> bytes:
    return _LINK.pack(family, 0, index, flags, flags)


def bridge(index: int, name: str) -> Change:
    """A bridge, down. It knows of no multicast groups: every port hears of every one."""
    data = attribute(_MULTICAST_ROUTER, b"\0") + attribute(_MULTICAST_SNOOPING, b"\0")
    info = attribute(_LINKINFO, _text(_KIND, "bridge") + attribute(_DATA, data))
    return _change(f"a bridge, {name}", _NEWLINK, _CREATE | _EXCLUSIVE, _link(index) + _text(_NAME, name) + info)


def cable(index: int, name: str, other: int, other_name: str, *, address: bytes = b"", elsewhere: bool = False) -> Change:
    """Two interfaces and a wire between them (veth(4)), both down: up, before the other end is there, is ENOTCONN.

    :param address: the first end's hardware address.
    :param elsewhere: whether the other end is in the namespace that :data:`NAMESPACE` stands for.
    """
    peer = _link(other) + _text(_NAME, other_name) + (NAMESPACE if elsewhere else b"")
    info = attribute(_LINKINFO, _text(_KIND, "veth") + attribute(_DATA, attribute(_PEER | _NESTED, peer)))
    body = _link(index) + _text(_NAME, name) + (attribute(_ADDRESS, address) if address else b"") + info
    return _change(f"a pair of interfaces, {name} and {other_name} (veth)", _NEWLINK, _CREATE | _EXCLUSIVE, body)


def up(index: int) -> Change:
    """An interface up."""
    return _change(f"interface {index} up", _SETLINK, 0, _link(index, _UP))


def carried(index: int) -> Change:
    """No change: EAGAIN until an interface that is up, as the other end of its wire is, lets packets pass.

    Up is done at once, but the carrier that the first end gets by it reaches its queue, and its bridge, by a worker of the kernel's some time later
    (net/core/link_watch.c); what is sent before is dropped in silence, and an ARP request asked again after a second. Newer kernels do
    the worker's work before they answer this.
    """
    return _change(f"packets through interface {index}", _GETLINK, 0, _link(index))


def silent(index: int) -> Change:
    """No IPv6 address of the kernel's own choice, and with it none of the packets that announce it.

    In a message of its own: in the one that makes the interface it is EAFNOSUPPORT.
    """
    family = attribute(socket.AF_INET6, attribute(_ADDR_GEN_MODE, bytes([_GENERATE_NONE])))
    return _change(f"no IPv6 address of its own for interface {index}", _SETLINK, 0, _link(index) + attribute(_AF_SPEC, family))


def port_of(index: int, master: int) -> Change:
    """An interface becomes a port of another bridge; 0: of none."""
    return _change(f"interface {index} a port of bridge {master}", _SETLINK, 0, _link(index) + _number(_MASTER, master))


def deaf(index: int) -> Change:
    """A port of a bridge that lets nothing pass any more, though its carrier stays."""
    state = attribute(_PROTINFO | _NESTED, attribute(_PORT_STATE, bytes([_DISABLED])))
    return _change(f"port {index} disabled", _SETLINK, 0, _link(index, family=_AF_BRIDGE) + state)


def address(index: int, address: str, prefix: int) -> Change:
    """An address, to be used at once."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    value = socket.inet_pton(family, address)
    body = struct.pack("=BBBBI", family, prefix, 0, 0, index) + attribute(_IFA_LOCAL, value) + attribute(_IFA_ADDRESS, value)
    body += _number(_IFA_FLAGS, _NODAD) if family == socket.AF_INET6 else b""
    return _change(f"the address {address}", _NEWADDR, _CREATE | _EXCLUSIVE, body)


def late(index: int, seconds: float) -> Change:
    """What an interface sends held back for so long: netem(8). ENOENT where the kernel has none."""
    # In nanoseconds since Linux 4.15; the field for it in the structure counts in 64 of them.
    options = struct.pack("=6I", 0, _NETEM_LIMIT, 0, 0, 0, 0) + attribute(_NETEM_LATENCY64, struct.pack("=q", round(seconds * 1e9)))
    body = _queue(index, handle=_NETEM) + _text(_QDISC_KIND, "netem") + attribute(_QDISC_OPTIONS, options)
    return _change(f"a delay at interface {index} (netem)", _NEWQDISC, _CREATE | _REPLACE, body)


def rate(index: int, bits: int, *, delayed: bool = False) -> Change:
    """What an interface sends held to so many bits a second, by a token bucket (tc-tbf(8)): bursts of 10 ms, and up to 100 ms in its queue.

    :param delayed: whether it is put behind what :func:`late` made.
    """
    second = bits // 8
    burst = max(second // 100, _FULL_FRAME)
    limit = burst + max(second // 10, 10 * _FULL_FRAME)
    # With a link layer that is known the kernel needs no table of times.
    parms = struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, min(second, 2**32 - 1)) + bytes(12) + struct.pack("=III", min(limit, 2**32 - 1), 0, 0)
    options = attribute(_TBF_PARMS, parms) + attribute(_TBF_RATE64, struct.pack("=Q", second)) + _number(_TBF_BURST, min(burst, 2**31 - 1))
    body = _queue(index, parent=_NETEM + 1 if delayed else _ROOT) + _text(_QDISC_KIND, "tbf") + attribute(_QDISC_OPTIONS, options)
    return _change(f"a token bucket at interface {index} (tc-tbf)", _NEWQDISC, _CREATE | _REPLACE, body)


def at_once(index: int) -> Change:
    """The end of :func:`late` and :func:`rate`."""
    return _change(f"no queue at interface {index}", _DELQDISC, 0, _queue(index))


# The largest packet of Ethernet, twice: what is larger than the bucket would never be let through.
_FULL_FRAME = 2 * 1514


def _queue(index: int, *, handle: int = 0, parent: int = _ROOT) -> bytes:
    return struct.pack("=BxHiIII", 0, 0, index, handle, parent, 0)


def packet(changes: Sequence[Change]) -> bytes:
    """Several changes as one packet, numbered from 1; the last one is acknowledged, and of the others those that fail."""
    numbered = []
    for number, (_, message) in enumerate(changes, 1):
        size, kind, flags, _, port = _HEADER.unpack_from(message)
        numbered.append(_HEADER.pack(size, kind, flags | (_ACK if number == len(changes) else 0), number, port) + message[_HEADER.size :])
    return b"".join(numbered)


def perform(packet: bytes) -> list[tuple[int, int]]:
    """Have the kernel make the changes of a packet in the caller's network namespace. It goes on after one that fails.

    :return: those that failed: their numbers, from 1, and why (errno).
    :raises OSError: where there is no netlink.
    """
    last, refused, number = _messages(packet)[-1].number, [], 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.send(packet)
        while number != last:
            for kind, number, body in _messages(sock.recv(_ROOM)):
                error = -struct.unpack_from("=i", body)[0] if kind == _ERROR else 0 if _carries(body) else errno.EAGAIN
                if error:
                    refused.append((number, error))
    return refused


def _carries(link: bytes) -> bool:
    """Of an answer to :func:`carried`."""
    offset = _LINK.size
    while offset < len(link):
        size, kind = struct.unpack_from("=HH", link, offset)
        if kind == _OPERSTATE:
            return link[offset + 4] == _OPER_UP
        offset += (size + 3) & ~3
    return False


class _Message(NamedTuple):
    kind: int
    number: int
    body: bytes


def _messages(packet: bytes) -> list[_Message]:
    found, offset = [], 0
    while offset < len(packet):
        size, kind, _, number, _ = _HEADER.unpack_from(packet, offset)
        found.append(_Message(kind, number, packet[offset + _HEADER.size : offset + size]))
        offset += (size + 3) & ~3
    return found

"""Who listens, and who is connected, in a network namespace: sock_diag(7), in raw netlink(7).

A question costs microseconds and leaves no trace: nobody is connected to, and nothing is read that walks every table of the kernel, as
``/proc/net/tcp`` does. It is about the namespace in which the netlink socket was made.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pytest_nsjail.errors import Unsupported

# include/uapi/linux/netlink.h, sock_diag.h, inet_diag.h, unix_diag.h
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NAME, _VFS, _PEER = 0, 1, 2
_SHOW_NAME, _SHOW_VFS, _SHOW_PEER = 1, 2, 4
# include/net/tcp_states.h; unix(7) sockets and those of datagrams borrow them.
ESTABLISHED, TIME_WAIT, CLOSE, LISTEN = 1, 6, 7, 10

_HEADER = struct.Struct("=IHHII")
# Family, protocol, extensions, states; then the ids: ports, addresses, interface, cookie (none: all ones).
_INET_ASKED = struct.Struct("=BBBxI2s2s16s16sI8s")
_INET_TOLD = struct.Struct("=BBBB2s2s16s16sI8sIIIII")
_UNIX_ASKED = struct.Struct("=BBHIII8s")
_UNIX_TOLD = struct.Struct("=BBBBI8s")
_NO_COOKIE = b"\xff" * 8
_NO_END = bytes(16), 0
_ROOM = 1 << 16
_MAPPED = bytes(10) + b"\xff\xff"


class Inet(NamedTuple):
    """A TCP or UDP socket.

    :param protocol: IPPROTO_TCP or IPPROTO_UDP.
    :param state: one of tcp_states.h.
    :param address: its own, in figures; an IPv4 one that an IPv6 socket has is an IPv4 one.
    :param peer: the other end's; ``::`` or ``0.0.0.0``, and port 0, where there is none.
    :param inode: of the socket's file; 0 where it has none (any more, or before accept(2)).
    """

    protocol: int
    state: int
    address: str
    port: int
    peer: str
    peer_port: int
    inode: int


class Unix(NamedTuple):
    """A unix socket.

    :param kind: SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
    :param name: what it was bound to: a path as the program gave it, ``@name`` for an abstract one, or nothing.
    :param file: the file system's inode number and device where it was bound to a path, else zeros.
    :param peer: the inode of the other end, 0 where there is none.
    """

    kind: int
    state: int
    name: str
    inode: int
    file: tuple[int, int]
    peer: int


class Diag:
    """Asks about one network namespace.

    :param sock: a netlink socket (NETLINK_SOCK_DIAG) that was made in it; owned from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._turn = 0

    def listener(self, address: str, port: int) -> int | None:
        """Whom a connection to an address would reach: an exact look-up, which finds those that listen on all addresses too.

        :return: the inode of the TCP socket that listens; None where nobody does.
        :raises OSError: for what the kernel says besides.
        """
        return self._exact(_inet(_family(address), socket.IPPROTO_TCP, 1 << LISTEN, (_packed(address), port)))

    def receiver(self, address: str, port: int) -> int | None:
        """Whom a datagram to an address would reach, likewise.

        :return: the inode of the UDP socket that has it; None where nobody does.
        :raises OSError: for what the kernel says besides.
        """
        # Of UDP the kernel takes the two ends of a question the other way round.
        return self._exact(_inet(_family(address), socket.IPPROTO_UDP, 0xFFFFFFFF, _NO_END, (_packed(address), port)))

    def connected(self, address: str, port: int, peer: str, peer_port: int) -> int | None:
        """One end of a TCP connection.

        :return: its inode; 0 where whoever had it has closed it; None where there is none.
        :raises OSError: for what the kernel says besides.
        """
        return self._exact(_inet(_family(address), socket.IPPROTO_TCP, 0xFFFFFFFF, (_packed(address), port), (_packed(peer), peer_port)))

    def inet(self, protocol: int, *states: int) -> list[Inet]:
        """All sockets of one protocol, IPPROTO_TCP or IPPROTO_UDP, in these states, or in any.

        :raises Unsupported: where this kernel cannot tell.
        """
        wanted = sum(1 << state for state in states) if states else 0xFFFFFFFF
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                found += [_inet_told(protocol, body) for body in self._ask(_inet(family, protocol, wanted), dump=True)]
            except FileNotFoundError:
                if family == socket.AF_INET:
                    module = "tcp_diag" if protocol == socket.IPPROTO_TCP else "udp_diag"
                    raise unsupported(module) from None
        return found

    def unix(self) -> list[Unix]:
        """All unix sockets.

        :raises Unsupported: where this kernel cannot tell.
        """
        asked = _UNIX_ASKED.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_NAME | _SHOW_VFS | _SHOW_PEER, _NO_COOKIE)
        try:
            return [_unix_told(body) for body in self._ask(asked, dump=True)]
        except FileNotFoundError:
            raise unsupported("unix_diag") from None

    def _exact(self, asked: bytes) -> int | None:
        try:
            return next(_inet_told(0, body).inode for body in self._ask(asked))
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Ask no more."""
        self._sock.close()

    def __enter__(self) -> Diag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, body: bytes, *, dump: bool = False) -> Iterator[bytes]:
        """The bodies of the answers.

        :raises OSError: what the kernel said: ENOENT for nothing found, and for a protocol that it does not know here.
        """
        self._turn += 1
        flags = _NLM_F_REQUEST | (_NLM_F_DUMP if dump else 0)
        self._sock.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, flags, self._turn, 0) + body)
        while True:
            said = self._sock.recv(_ROOM)
            place = 0
            while place < len(said):
                length, kind, _, turn, _ = _HEADER.unpack_from(said, place)
                content = said[place + _HEADER.size : place + length]
                place += (length + 3) & ~3
                if turn != self._turn:
                    continue  # of a question whose answers nobody waited for
                if kind == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", content)[0]
                    raise OSError(number, f"sock_diag: {os.strerror(number)}")
                if kind == _NLMSG_DONE:
                    return
                yield content
                if not dump:
                    return


def unsupported(module: str) -> Unsupported:
    """What a kernel without a part of sock_diag is told about."""
    return Unsupported(f"This kernel cannot tell who listens: it has no {module} (sock_diag(7))", f"As root: modprobe {module}")


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _packed(address: str) -> bytes:
    return socket.inet_pton(_family(address), address).ljust(16, b"\0")


def _inet(family: int, protocol: int, states: int, source: tuple[bytes, int] = _NO_END, destination: tuple[bytes, int] = _NO_END) -> bytes:
    ports = [port.to_bytes(2, "big") for _, port in (source, destination)]
    return _INET_ASKED.pack(family, protocol, 0, states, *ports, source[0], destination[0], 0, _NO_COOKIE)


def _inet_told(protocol: int, body: bytes) -> Inet:
    family, state, _, _, port, peer_port, address, peer, *_, inode = _INET_TOLD.unpack_from(body)
    return Inet(protocol, state, _figures(family, address), int.from_bytes(port, "big"), _figures(family, peer), int.from_bytes(peer_port, "big"), inode)


def _figures(family: int, packed: bytes) -> str:
    if family == socket.AF_INET:
        return socket.inet_ntop(family, packed[:4])
    if packed[:12] == _MAPPED:
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(family, packed)


def _unix_told(body: bytes) -> Unix:
    _, kind, state, _, inode, _ = _UNIX_TOLD.unpack_from(body)
    name, file, peer = "", (0, 0), 0
    place = _UNIX_TOLD.size
    while place + 4 <= len(body):
        length, what = struct.unpack_from("=HH", body, place)
        value = body[place + 4 : place + length]
        if what == _NAME:
            # A path may come with the NUL that ends it in C; an abstract name begins with one.
            name = f"@{os.fsdecode(value[1:])}" if value[:1] == b"\0" else os.fsdecode(value.split(b"\0")[0])
        elif what == _VFS:
            number, device = struct.unpack("=II", value)
            # The kernel's own numbering of devices: 12 bits for the major one, 20 for the minor one.
            file = number, os.makedev(device >> 20, device & 0xFFFFF)
        elif what == _PEER:
            peer = struct.unpack("=I", value)[0]
        place += (length + 3) & ~3
    return Unix(kind, state, name, inode, file, peer)

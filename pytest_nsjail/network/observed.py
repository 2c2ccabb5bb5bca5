"""Who listens in a jail and who is connected, as values to assert on."""

from __future__ import annotations

import errno
import os
import shlex
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_nsjail.errors import Unsupported
from pytest_nsjail.kernel.sock_diag import CLOSE, ESTABLISHED, LISTEN, TIME_WAIT, Diag, Inet, Unix, unsupported
from pytest_nsjail.network.dial import Source

# How the names begin to which programs say how they are (sd_notify(3)): nobody listens there for others.
NOTIFY = "nsjail-notify"
# include/uapi/linux/netlink.h
_NETLINK_SOCK_DIAG = 4
_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}
# include/net/tcp_states.h: a request that is no connection yet has no socket either.
_NEW_SYN_RECV = 12
_BRIEF = 80


class Process(Protocol):
    """Who has a socket, see :class:`pytest_nsjail.jail.handle.Process`."""

    @property
    def pid(self) -> int:
        """As the jail numbers it."""

    @property
    def host_pid(self) -> int:
        """As the host numbers it."""

    @property
    def argv(self) -> tuple[str, ...]:
        """Its arguments."""


# From inodes of sockets to who has them; whoever is not in the jail is left out.
Holders = Callable[[Iterable[int]], Mapping[int, Process]]


@dataclass(frozen=True)
class Listener:
    """A socket that waits for who comes.

    :param protocol: ``tcp``, ``udp`` or ``unix``.
    :param address: in figures; ``::`` may stand for all of both families; nothing for a unix socket.
    :param port: 0 for a unix socket.
    :param path: of a unix socket, as the program gave it, or ``@name``; else nothing.
    :param process: who has it, the first one of several; None for a socket of the test's.
    """

    protocol: str
    address: str
    port: int
    path: str
    process: Process | None

    def __str__(self) -> str:
        return f"{self.protocol} {self.path or place(self.address, self.port)}, {_who(self.process)}"


@dataclass(frozen=True)
class Connection:
    """One end of a connection, or of what is about to be one; where both ends are in the jail there are two of them.

    :param protocol: ``tcp``, ``udp`` or ``unix``.
    :param address: this end's, in figures; nothing for a unix socket.
    :param port: this end's; 0 for a unix socket.
    :param peer_address: the other end's, likewise.
    :param peer_port: the other end's.
    :param path: of a unix socket: what either end is bound to; else nothing.
    :param process: who has this end, the first one of several; None for a socket of the test's, and for one that nobody has accepted yet.
    """

    protocol: str
    address: str
    port: int
    peer_address: str
    peer_port: int
    path: str
    process: Process | None

    def __str__(self) -> str:
        ends = self.path or f"{place(self.address, self.port)} to {place(self.peer_address, self.peer_port)}"
        return f"{self.protocol} {ends}, {_who(self.process)}"


@dataclass(frozen=True)
class Attempt:
    """An attempt to reach what is not there.

    :param protocol: ``tcp`` or ``udp``.
    :param address: which was tried, in figures.
    :param port: which was tried.
    :param errno: what connect(2) or sendto(2) says: ECONNREFUSED where nobody is, ENETUNREACH where no way leads.
    :param count: how often it was made.
    :param process: who made it; its ``host_pid`` is 0 where it has ended.
    """

    protocol: str
    address: str
    port: int
    errno: int
    count: int
    process: Process

    def __str__(self) -> str:
        often = "" if self.count == 1 else f", {self.count} times"
        return f"{self.protocol} {place(self.address, self.port)}: {os.strerror(self.errno)}{often}, {_who(self.process)}"


def attempts(told: Mapping[str, Any], who: Callable[[int, tuple[str, ...]], Process]) -> tuple[Attempt, ...]:
    """From what an init has seen.

    :param who: a process, by its pid and its arguments.
    :raises Unsupported: where it has not.
    """
    if why := told["off"]:
        reasons = {
            errno.EBUSY: "Somebody who started pytest, or this jail's program, observes system calls already, and the kernel lets nobody do so twice.",
            errno.EINVAL: "It needs Linux 5.19.",
            errno.EOPNOTSUPP: "As root: modprobe tcp_diag udp_diag",
        }
        what = f"what programs try to reach is not seen here (seccomp_unotify(2): {os.strerror(why)})"
        raise Unsupported(what, reasons.get(why, "Assert on what the program says."))
    return tuple(
        Attempt(protocol, address, port, error, count, who(pid, tuple(argv))) for pid, protocol, address, port, error, count, argv in told["attempts"]
    )


def ask(source: Source) -> Diag:
    """Who answers questions about a jail's network.

    :raises Unsupported: where this kernel has nobody who does.
    """
    try:
        return Diag(source.make(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG))
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise unsupported("sock_diag") from None
        raise


def listeners(diag: Diag, holders: Holders, *, shared: bool) -> tuple[Listener, ...]:
    """Everybody who listens, TCP first, by address and port.

    :param shared: whether the network is others' as well, and what only those have is left out.
    """
    inet = diag.inet(socket.IPPROTO_TCP, LISTEN) + [one for one in diag.inet(socket.IPPROTO_UDP, CLOSE) if one.port]
    named = [one for one in diag.unix() if one.name and not one.name.startswith(f"@{NOTIFY}")]
    unix = [one for one in named if one.state == LISTEN or (one.kind == socket.SOCK_DGRAM and one.state != ESTABLISHED)]
    by = holders([*(one.inode for one in inet), *(one.inode for one in unix)])
    found = [Listener(_PROTOCOLS[one.protocol], one.address, one.port, "", by.get(one.inode)) for one in sorted(inet, key=_order)]
    found += [Listener("unix", "", 0, one.name, by.get(one.inode)) for one in sorted(unix, key=lambda one: one.name)]
    return tuple(one for one in found if one.process or not shared)


def connections(diag: Diag, holders: Holders, *, shared: bool) -> tuple[Connection, ...]:
    """Every end of a connection, TCP first, by address and port."""
    inet = [one for one in diag.inet(socket.IPPROTO_TCP) if one.state not in (LISTEN, CLOSE, TIME_WAIT, _NEW_SYN_RECV)]
    inet += diag.inet(socket.IPPROTO_UDP, ESTABLISHED)
    every = {one.inode: one for one in diag.unix()}
    unix = [(one, name) for one in every.values() if one.state == ESTABLISHED and (name := one.name or _name(every.get(one.peer)))]
    by = holders([*(one.inode for one in inet), *(one.inode for one, _ in unix)])
    found = [
        Connection(_PROTOCOLS[one.protocol], one.address, one.port, one.peer, one.peer_port, "", by.get(one.inode)) for one in sorted(inet, key=_order)
    ]
    found += [Connection("unix", "", 0, "", 0, name, by.get(one.inode)) for one, name in sorted(unix, key=lambda end: (end[1], end[0].inode))]
    return tuple(one for one in found if one.process or not shared)


def place(address: str, port: int) -> str:
    """An address and a port, as one writes them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _name(peer: Unix | None) -> str:
    return peer.name if peer else ""


def _order(one: Inet) -> tuple[object, ...]:
    return one.protocol, one.address, one.port, one.peer, one.peer_port


def _who(process: Process | None) -> str:
    if process is None:
        return "nobody's in the jail"
    # Who has given itself another title has left nothing but NUL bytes behind it.
    command = " ".join(shlex.join(process.argv).replace(" ''", "").split())
    return f"process {process.pid} ({command if len(command) <= _BRIEF else command[: _BRIEF - 3] + '...'})"

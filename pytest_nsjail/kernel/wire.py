"""Messages between pytest, the zygote, the inits and the relay: JSON over SOCK_SEQPACKET, descriptors beside it (unix(7)).

What does not fit a packet travels in a memory file that goes along as the last descriptor.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

# Below the smallest default of net.core.wmem_default, the kernel's own bookkeeping left aside.
_PACKET = 64 * 1024
_FDS = 16
_CREDENTIALS = struct.Struct("3i")
SCM_CREDENTIALS, SO_PASSCRED = 2, 16


class Received(NamedTuple):
    """One message.

    :param body: what was sent.
    :param fds: the descriptors that came with it, close-on-exec; the receiver owns them.
    :param pid: the process it is about, as the receiver's pid namespace numbers it; 0 where that was not asked for.
    """

    body: dict[str, Any]
    fds: list[int]
    pid: int


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair: a packet is one message, and a peer's death is an end of file."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(sock: socket.socket, body: dict[str, Any], fds: Sequence[int] = (), *, pid: int | None = None) -> None:
    """Send a message.

    :param fds: descriptors to go along; the sender keeps its own.
    :param pid: the process that it is about. The kernel translates it for the receiver, who must have asked (SO_PASSCRED);
        the sender needs CAP_SYS_ADMIN over its pid namespace for any process but itself.
    :raises OSError: BrokenPipeError where the peer is gone.
    """
    packet = json.dumps(body, separators=(",", ":")).encode("ascii")
    large = None
    if len(packet) > _PACKET:
        large = os.memfd_create("nsjail-message", os.MFD_CLOEXEC)
        with open(os.dup(large), "wb") as file:
            file.write(packet)
        packet, fds = b"", [*fds, large]
    ancillary: list[tuple[int, int, Any]] = []
    if fds:
        ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds)))
    if pid is not None:
        ancillary.append((socket.SOL_SOCKET, SCM_CREDENTIALS, _CREDENTIALS.pack(pid, os.getuid(), os.getgid())))
    try:
        # An empty packet would read as an end of file.
        sock.sendmsg([packet or b"\0"], ancillary, socket.MSG_NOSIGNAL)
    finally:
        if large is not None:
            os.close(large)


def receive(sock: socket.socket) -> Received | None:
    """The next message, or None when the peer is gone.

    :raises OSError: EMFILE where a descriptor that came along found no place in this process.
    """
    space = socket.CMSG_SPACE(_FDS * array.array("i").itemsize) + socket.CMSG_SPACE(_CREDENTIALS.size)
    try:
        packet, ancillary, flags, _ = sock.recvmsg(_PACKET + 1, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # The peer left without reading all we said; the kernel tells that first, once, and what the peer said before is still there.
        try:
            packet, ancillary, flags, _ = sock.recvmsg(_PACKET + 1, space, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return None
    fds, pid = array.array("i"), 0
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        elif kind == SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack(data)[0]
    if not packet:
        return None
    received = list(fds)
    if flags & socket.MSG_CTRUNC:
        for fd in received:
            os.close(fd)
        raise OSError(errno.EMFILE, "descriptors from a jail were lost: too many files are open in this process (ulimit -n)")
    if packet == b"\0":
        large = received.pop()
        with open(large, "rb") as file:
            file.seek(0)
            packet = file.read()
    return Received(json.loads(packet), received, pid)

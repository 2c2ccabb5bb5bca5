"""A network emulator: what netem(8) does to a link, by a process, so that no kernel has to have it and the same seed loses the same packets.

It stands between two interfaces, in the init of a network without programs: what one receives is sent by the other, later or never. With packet(7)
sockets, whose frames carry how the kernel meant to cut them and sum them up (PACKET_VNET_HDR): a frame may be 64 KiB long, and passes as it is.
"""

from __future__ import annotations

import array
import heapq
import itertools
import socket
import struct
import time
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from pytest_nsjail.jail.poll import Poll
from pytest_nsjail.kernel.timer import Timer

# include/uapi/linux/if_packet.h, if_ether.h
_SOL_PACKET, _VNET_HDR, _IGNORE_OUTGOING, _ETH_P_ALL = 263, 15, 23, 3
# include/uapi/asm-generic/socket.h; linux/filter.h: BPF_RET | BPF_K, with nothing of the packet
_SO_RCVBUFFORCE, _SO_ATTACH_FILTER, _SO_DETACH_FILTER = 33, 26, 27
_RETURN_NOTHING = array.array("B", struct.pack("HBBI", 6, 0, 0, 0))
_TAKE_NOTHING = struct.pack("HP", 1, _RETURN_NOTHING.buffer_info()[0])
_BUFFER = 8 << 20
# Of struct virtio_net_hdr; the Ethernet frame follows, and then what its type says.
_FRAME, _TYPE, _PACKET = 10, 22, 24
_IPV4, _IPV6, _ICMPV6 = b"\x08\x00", b"\x86\xdd", 58
# What one interface may send before another has its turn.
_TURN = 64


class Treatment(NamedTuple):
    """What befalls the frames of a link, in each direction.

    :param delay: how much later each is, in seconds.
    :param jitter: by how much that varies, up and down, evenly.
    :param loss: the share that is lost, 0 to 1.
    :param seed: what the losses and the variations are drawn from.
    """

    delay: float
    jitter: float
    loss: float
    seed: int


class _Way:
    """One direction."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source, self.target = source, target

    def ignore(self) -> None:
        """Hear of no frame more. A filter that takes nothing is there at once, where to close a socket is to wait for all processors (synchronize_net)."""
        self.source.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _TAKE_NOTHING)

    def heed(self) -> None:
        """The end of that."""
        self.source.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def receive(self, buffer: memoryview) -> memoryview | None:
        """The next frame; None where there is none.

        :raises OSError: once, where the interface went.
        """
        try:
            return buffer[: self.source.recv_into(buffer)]
        except BlockingIOError:
            return None

    def treat(self, treatment: Treatment, direction: int) -> None:
        self.delay, self.jitter, self.loss, seed = treatment
        # Each has its own, so that a loss is the same with and without jitter.
        self._losses, self._delays = Random(4 * seed + direction), Random(4 * seed + 2 + direction)

    def loses(self, frame: memoryview) -> bool:
        """Whether a frame is lost. One of neighbour discovery never is: when it is sent depends on the time, and others' luck must not depend on it."""
        return bool(self.loss) and _counts(frame) and self._losses.random() < self.loss

    def lateness(self) -> float:
        return self.delay + (self.jitter * (2 * self._delays.random() - 1) if self.jitter else 0.0)

    def send(self, frame: bytes | memoryview) -> None:
        try:
            self.target.send(frame)
        except OSError:
            pass  # its queue is full, or it is down: so is a frame lost on any wire


class Emulator:
    """Every link that is emulated in one network namespace.

    :param poll: where its descriptors are listened to.
    """

    def __init__(self, poll: Poll) -> None:
        self._poll = poll
        self._links: dict[int, tuple[_Way, _Way]] = {}
        self._heard: set[_Way] = set()
        self._due: list[tuple[float, int, _Way, bytes]] = []
        self._order = itertools.count()
        self._buffer = memoryview(bytearray(1 << 17))
        self._timer = Timer()
        poll.watch(self._timer.fd, self._deliver)

    def treat(self, number: int, ends: Sequence[str], treatment: Treatment) -> None:
        """Emulate a link from now on, or treat it otherwise.

        :param number: what it is known by.
        :param ends: the names of two interfaces.
        :raises OSError: where there is no such interface.
        """
        if number in self._links:
            for way in self._links[number]:
                if way not in self._heard:
                    way.heed()
        else:
            one, other = (_packets(name) for name in ends)
            self._links[number] = _Way(one, other), _Way(other, one)
        for direction, way in enumerate(self._links[number]):
            way.treat(treatment, direction)
            if way not in self._heard:
                self._heard.add(way)
                self._poll.watch(way.source.fileno(), partial(self._carry, number, way))

    def release(self, number: int) -> None:
        """Let a link be, until it is treated again; what is on its way arrives now."""
        ways = self._links.get(number, ())
        for way in ways:
            way.ignore()
            self._forget(way)
            try:
                while (last := way.receive(self._buffer)) is not None:
                    self._due.append((time.monotonic(), next(self._order), way, bytes(last)))
            except OSError:
                pass  # the interface went, with its jail
        for _, _, way, frame in sorted(one for one in self._due if one[2] in ways):
            way.send(frame)
        self._due = [one for one in self._due if one[2] not in ways]
        heapq.heapify(self._due)

    def _carry(self, number: int, way: _Way, _: int) -> None:
        """Frames have come."""
        first = self._due[0][0] if self._due else None
        now = time.monotonic()
        try:
            for _ in range(_TURN):
                frame = way.receive(self._buffer)
                if frame is None:
                    break
                if way.loses(frame):
                    continue
                if late := way.lateness():
                    heapq.heappush(self._due, (now + late, next(self._order), way, bytes(frame)))
                else:
                    way.send(frame)
        except OSError:
            self._lose(number)
        if self._due and self._due[0][0] != first:
            self._timer.set(self._due[0][0])

    def _lose(self, number: int) -> None:
        """A link's interface went, with its jail."""
        ways = self._links.pop(number)
        self._due = [one for one in self._due if one[2] not in ways]
        heapq.heapify(self._due)
        for way in ways:
            self._forget(way)
        for way in ways:
            way.source.close()

    def _forget(self, way: _Way) -> None:
        self._poll.forget(way.source.fileno())
        self._heard.discard(way)

    def _deliver(self, events: int) -> None:
        """Some have been late enough."""
        self._timer.clear()
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, way, frame = heapq.heappop(self._due)
            way.send(frame)
        if self._due:
            self._timer.set(self._due[0][0])


def _packets(interface: str) -> socket.socket:
    # Of no protocol until it is bound, so that nothing of another interface comes first.
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        made.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        made.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        try:
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:  # only of the host's root: others have what net.core.rmem_max says
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        made.bind((interface, _ETH_P_ALL))
    except BaseException:
        made.close()
        raise
    return made


def _counts(frame: memoryview) -> bool:
    """Whether it is one host's packet for another one."""
    kind = frame[_TYPE:_PACKET]
    if len(frame) <= _PACKET or frame[_FRAME] & 1:  # to a group
        return False
    if kind == _IPV6 and len(frame) > _PACKET + 40:
        # RFC 4861: 133 to 137
        return not (frame[_PACKET + 6] == _ICMPV6 and 133 <= frame[_PACKET + 40] <= 137)
    return kind in (_IPV4, _IPV6)

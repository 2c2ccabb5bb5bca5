"""What a program says of itself: sd_notify(3)."""

from __future__ import annotations

import os
import socket

from pytest_nsjail.jail.poll import Poll

# systemd takes messages of a page.
_ROOM = 4096
# What is read before the init looks after anything else: a program may write as fast as it is read.
_TURN = 64


class Notices:
    """The socket that ``$NOTIFY_SOCKET`` names, read by the init all the time: a program that says more than the kernel queues would be kept waiting.

    Its name is an abstract one, which only processes of this network can see, and to which each of them may write, whoever it is; a file
    would be part of what the program wrote.

    :param poll: where it is listened to.
    :ivar ready: whether the program has said ``READY=1``.
    :ivar status: its last ``STATUS=``.
    """

    def __init__(self, poll: Poll) -> None:
        self._poll = poll
        self.ready = False
        self.status = ""

    def listen(self, name: str) -> None:
        """Be there, before anybody has something to say.

        :raises OSError: EADDRINUSE where somebody has the name.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(f"\0{name}")
        self._poll.watch(sock.fileno(), lambda _: self._hear(sock))

    def _hear(self, sock: socket.socket) -> None:
        """Read what was said. Descriptors that came along (FDSTORE=1, BARRIER=1) are closed by the kernel, as nobody takes them."""
        for _ in range(_TURN):
            try:
                message = sock.recv(_ROOM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            for line in message.split(b"\n"):
                key, _, value = line.partition(b"=")
                if key == b"READY" and value == b"1":
                    self.ready = True
                elif key == b"STATUS":
                    self.status = os.fsdecode(value)

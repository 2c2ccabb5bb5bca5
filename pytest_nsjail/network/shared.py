"""What all published ports of the relay have in common."""

from __future__ import annotations

import socket

from pytest_nsjail.kernel.sock_diag import Diag
from pytest_nsjail.network.loop import Loop
from pytest_nsjail.network.pipes import Pipes
from pytest_nsjail.network.room import Room

# include/uapi/linux/netlink.h
_NETLINK_SOCK_DIAG = 4


class Shared:
    """What one relay has once."""

    def __init__(self) -> None:
        self.loop, self.pipes, self.room = Loop(), Pipes(), Room()
        self._diag: Diag | None = None

    def abandoned(self, client: socket.socket) -> bool:
        """Whether the other end of a connection is a socket of this network that its process has closed, and not only for writing.

        False where the kernel does not say.
        """
        try:
            self._diag = self._diag or Diag(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG))
            return self._diag.connected(*client.getpeername()[:2], *client.getsockname()[:2]) == 0
        except OSError:
            return False

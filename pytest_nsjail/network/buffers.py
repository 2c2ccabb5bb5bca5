"""How much of a relayed connection may be on its way in the kernel, on either side of the relay.

Left alone the kernel lets it grow to tcp_rmem's and tcp_wmem's last numbers (tcp(7)), some 40 MiB: a client that is faster than the relay fills it, and then
every byte has left the processor's cache before it is read. A host may have a lower bound (net.core.rmem_max, wmem_max; mostly 208 KiB), and that is taken.
"""

from __future__ import annotations

import socket

# Measured: half or twice as much of either costs a tenth of a stream's throughput.
_RECEIVED, _SENT = 1 << 20, 1 << 19


def bound(sock: socket.socket) -> None:
    """Bound them, of a socket that is connected: set before, for a listener as well, they were measured to change nothing."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT)

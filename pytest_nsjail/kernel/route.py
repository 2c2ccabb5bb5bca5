"""Where a packet would go: rtnetlink(7)."""

from __future__ import annotations

import os
import socket
import struct

# include/uapi/linux/netlink.h, rtnetlink.h
_NLMSG_ERROR, _NLM_F_REQUEST = 2, 1
_RTM_GETROUTE, _RTA_DST, _RTN_LOCAL = 26, 1, 2
_HEADER = struct.Struct("=IHHII")
# struct rtmsg: family, destination's and source's length, service, table, protocol, scope, type, flags.
_ROUTE = struct.Struct("=8BI")
_ROOM = 1 << 14


def local(sock: socket.socket, address: str) -> bool:
    """Whether an address is one of this network namespace's own.

    :param sock: a netlink socket (NETLINK_ROUTE) that was made in it.
    :raises OSError: why no packet would go there: ENETUNREACH, EHOSTUNREACH, EACCES.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = _ROUTE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0) + struct.pack("=HH", 4 + len(packed), _RTA_DST) + packed
    sock.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 0, 0) + body)
    said = sock.recv(_ROOM)
    if _HEADER.unpack_from(said)[1] == _NLMSG_ERROR:
        number = -struct.unpack_from("=i", said, _HEADER.size)[0]
        raise OSError(number, os.strerror(number))
    return bool(_ROUTE.unpack_from(said, _HEADER.size)[7] == _RTN_LOCAL)

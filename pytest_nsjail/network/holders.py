"""Who has a port of the host's, as far as this user may know: for the message that it is taken."""

from __future__ import annotations

import ipaddress
import os
import pwd
import sys

# What the relay is called.
RELAY = "nsjail-relay"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_FILES = {False: ("/proc/net/tcp", "/proc/net/tcp6"), True: ("/proc/net/udp", "/proc/net/udp6")}


def holder(host: str, port: int, *, udp: bool) -> str:
    """In words: the process, or its user where it is another's; empty where the kernel shows nobody."""
    wanted = ipaddress.ip_address(host)
    for name in _FILES[udp]:
        try:
            with open(name, encoding="ascii") as table:
                lines = table.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            # proc_pid_net(5), /proc/net/tcp: sl local_address rem_address st queues timer retransmits uid timeout inode
            fields = line.split()
            address, number = fields[1].split(":")
            inode = int(fields[9])
            if int(number, 16) == port and inode and _clashes(_address(address), wanted):
                return _process(inode) or _user(int(fields[7]))
    return ""


def _address(digits: str) -> Address:
    """From words of four bytes in the machine's order."""
    packed = b"".join(int(digits[start:start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(digits), 8))
    return ipaddress.ip_address(packed)


def _clashes(one: Address, other: Address) -> bool:
    """Whether two sockets with one port cannot be."""
    if one.version != other.version:
        return (one if one.version == 6 else other).is_unspecified
    return one == other or one.is_unspecified or other.is_unspecified


def _process(inode: int) -> str:
    """Whoever of those that this user may look at has a socket."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            # proc_pid_fd(5)
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]" for fd in os.listdir(f"/proc/{pid}/fd")):
                command = _command(pid)
                return f"process {pid} ({command}{', for a jail that publishes it' if command == RELAY else ''})"
        except OSError:
            continue
    return ""


def _command(pid: str) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        arguments = os.fsdecode(file.read()).strip("\0").split("\0")
    if arguments[0]:
        return " ".join(arguments)
    with open(f"/proc/{pid}/comm", "rb") as file:
        return os.fsdecode(file.read()).strip()


def _user(uid: int) -> str:
    try:
        return f"a process of the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"a process of the user {uid}"

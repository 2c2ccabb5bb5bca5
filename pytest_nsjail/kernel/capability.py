"""What this process may do (capabilities(7))."""

from __future__ import annotations

import struct

from pytest_nsjail.kernel.numbers import number
from pytest_nsjail.kernel.syscall import syscall

# include/uapi/linux/capability.h
_VERSION_3 = 0x20080522
SYS_ADMIN = 21
SYS_RESOURCE = 24


def has(capability: int) -> bool:
    """Whether a capability is in this process's effective set."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> capability & 1)
    return False


def drop_all() -> None:
    """Give up every capability, for good: capset(2).

    :raises OSError: from the kernel.
    """
    syscall("capset", number("capset"), struct.pack("=Ii", _VERSION_3, 0), bytes(24))

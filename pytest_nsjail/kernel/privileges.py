"""What a process gives up for good; apart from what it reads of itself, which pytest's header line does without ctypes."""

from __future__ import annotations

import struct

from pytest_nsjail.kernel.numbers import number
from pytest_nsjail.kernel.syscall import syscall

# include/uapi/linux/capability.h
_VERSION_3 = 0x20080522


def drop_capabilities() -> None:
    """Give up every capability: capset(2).

    :raises OSError: from the kernel.
    """
    syscall("capset", number("capset"), struct.pack("=Ii", _VERSION_3, 0), bytes(24))

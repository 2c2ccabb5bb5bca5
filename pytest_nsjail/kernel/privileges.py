"""What a process gives up for good; apart from what it reads of itself, which pytest's header line does without ctypes."""

from __future__ import annotations

import struct

from pytest_nsjail.kernel.numbers import number
from pytest_nsjail.kernel.syscall import syscall

# include/uapi/linux/capability.h
_VERSION_3 = 0x20080522


def keep_capabilities(kept: int) -> None:
    """Give up every capability but some, and let none be inherited: capset(2).

    :param kept: a bit for each; the process has them.
    :raises OSError: from the kernel.
    """
    low, high = kept & 0xFFFFFFFF, kept >> 32
    syscall("capset", number("capset"), struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", low, low, 0, high, high, 0))

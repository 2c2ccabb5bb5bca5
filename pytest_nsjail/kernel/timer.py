"""A timer as a descriptor, to be waited for beside others: timerfd_create(2). Python has it from 3.13 on; poll(2) counts in milliseconds."""

from __future__ import annotations

import ctypes
import os
import time

from pytest_nsjail.kernel.syscall import libc, number_or_raise

_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
_timerfd_create = libc("timerfd_create", ctypes.c_int, ctypes.c_int)
_timerfd_settime = libc("timerfd_settime", ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Timer:
    """One moment that is waited for.

    :ivar fd: readable once it has come.
    """

    def __init__(self) -> None:
        self.fd = number_or_raise(_timerfd_create(time.CLOCK_MONOTONIC, _FLAGS), "timerfd_create")

    def set(self, moment: float) -> None:
        """Wait for another moment, by :func:`time.monotonic`; one that has passed comes at once."""
        nanoseconds = max(1, round((moment - time.monotonic()) * 1e9))
        value = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, 10**9))
        number_or_raise(_timerfd_settime(self.fd, 0, value, None), "timerfd_settime")

    def clear(self) -> None:
        """It has come, and is known."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            pass

"""A time limit for the child, and where every thread of it was when the time was over."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import _pytest
import pluggy
import pytest

import pytest_nsjail

# Not one that a test sends to itself, one hopes.
_ASK = signal.SIGRTMAX - 1
# How long a process may take to write its stacks, in seconds.
_PATIENCE = 1.0
_STEP = 0.01
_NOT_SHOWN = tuple(f'File "{Path(file or "").parent}{os.sep}' for file in (_pytest.__file__, pluggy.__file__, pytest.__file__, pytest_nsjail.__file__))


def be_ready(files: Sequence[int]) -> None:
    """In the child: be ready to be asked.

    :param files: the clock's.
    """
    for file in files:
        faulthandler.register(_ASK, file=file, all_threads=True, chain=False)


class Clock:
    """Runs from the fork on.

    :param seconds: the limit; None: there is none.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._file = -1 if seconds is None else os.memfd_create("nsjail-stacks", os.MFD_CLOEXEC)
        self._end = 0.0
        self._stopped = seconds is None

    def start(self) -> None:
        """In the parent: the time runs."""
        self._end = time.monotonic() + (self.seconds or 0.0)

    def stop(self) -> None:
        """Whoever sits before a debugger is given all the time."""
        self._stopped = True

    def left(self) -> float | None:
        """Seconds until the end; None: there is none."""
        return None if self._stopped else max(0.0, self._end - time.monotonic())

    @property
    def files(self) -> list[int]:
        """What the child needs to be ready."""
        return [] if self._file < 0 else [self._file]

    def ask(self, kill: object) -> str:
        """In the parent: the stack of every thread of the child, the innermost frame first; what calls the test is left out.

        :param kill: sends the child a signal.
        """
        assert callable(kill)
        kill(_ASK)
        end, size = time.monotonic() + _PATIENCE, 0
        while time.monotonic() < end:
            time.sleep(_STEP)
            before, size = size, os.fstat(self._file).st_size
            if size and size == before:
                break
        text = os.pread(self._file, size, 0).decode(errors="replace")
        return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(_NOT_SHOWN))

    def close(self) -> None:
        """Give back what it has."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

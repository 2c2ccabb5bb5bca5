"""How a program ended, told apart by type and never by number."""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass

from pytest_nsjail.errors import NsjailError


def signal_name(number: int) -> str:
    """``SIGTERM``, or ``signal 35`` for one without a name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True)
class Exited:
    """It ended by itself.

    :param code: 0 to 255.
    """

    code: int

    def __str__(self) -> str:
        return f"exited with {self.code}"


@dataclass(frozen=True)
class Signaled:
    """A signal killed it.

    :param signal: its number, see signal(7).
    """

    signal: int

    def __str__(self) -> str:
        return f"killed by {signal_name(self.signal)}"


@dataclass(frozen=True)
class TimedOut:
    """It ran longer than it was given, got SIGTERM and, after a grace, SIGKILL with all its kin.

    :param seconds: what it was given.
    :param ended: how it ended then: a program that handles SIGTERM exits as it likes.
    """

    seconds: float
    ended: Exited | Signaled

    def __str__(self) -> str:
        return f"timed out after {self.seconds:g} s ({self.ended})"


@dataclass(frozen=True)
class OutOfMemory:
    """It, or a process of its, was killed for going over ``Limits(memory=...)``.

    :param limit: in bytes.
    :param ended: how the main program ended.
    """

    limit: int
    ended: Exited | Signaled

    def __str__(self) -> str:
        return f"out of memory: its limit is {self.limit} bytes ({self.ended})"


@dataclass(frozen=True)
class Denied:
    """A seccomp filter killed it for a system call (SIGSYS).

    :param syscall: the call, where it is known: the kernel does not tell a parent which it was.
    """

    syscall: str | None = None

    def __str__(self) -> str:
        return f"killed by a seccomp filter for {self.syscall or 'a system call that it refuses'} (SIGSYS)"


@dataclass(frozen=True)
class NotStarted:
    """It never ran.

    :param error: why, in words: a :class:`StartError` for a program that the kernel or its loader refused.
    """

    error: NsjailError

    def __str__(self) -> str:
        return f"not started: {self.error}"


Status = Exited | Signaled | TimedOut | OutOfMemory | Denied | NotStarted


@dataclass(frozen=True)
class Exceeded:
    """A limit that was reached.

    :param limit: which: ``timeout``, ``memory``, ``processes``, ``cpu_seconds``, ``file_size``, ``open_files``, or ``space``
        for a full file system.
    :param evidence: how it is known: the kernel's counter or signal, or, where it has none, what the program said.
    """

    limit: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.limit}: {self.evidence}"

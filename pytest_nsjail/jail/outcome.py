"""From what the init reported and the kernel counted to a status in words: pure."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

from pytest_nsjail.jail.status import Denied, Exceeded, Exited, OutOfMemory, Signaled, Status, TimedOut, signal_name
from pytest_nsjail.kernel.cgroup import Counters
from pytest_nsjail.spec.limits import Limits

_EMFILE = (os.strerror(24), "EMFILE")
_EAGAIN = (os.strerror(11), "EAGAIN")


@dataclass(frozen=True)
class Usage:
    """What a program used, by the kernel's accounting (getrusage(2), and the control group where it had one).

    :param user: seconds of CPU time in its own code, its children's included.
    :param system: seconds of CPU time in the kernel.
    :param peak_memory: bytes: of all its processes at once where a control group counted, else of its largest one. The kernel
        starts the latter at what the jail's init used when it became the program, some 10 MB.
    """

    user: float
    system: float
    peak_memory: int


def ended(report: dict[str, Any]) -> Exited | Signaled:
    """How the main program ended, by its wait status."""
    code = os.waitstatus_to_exitcode(report["status"])
    return Exited(code) if code >= 0 else Signaled(-code)


def usage(report: dict[str, Any], counters: Counters | None) -> Usage:
    """What it used."""
    user, system, largest = report["usage"]
    return Usage(user, system, counters.peak if counters and counters.peak else largest * 1024)


def interpret(
    report: dict[str, Any], counters: Counters | None, limits: Limits, *, timeout: float | None, stderr: bytes, largest_file: int,
) -> tuple[Status, tuple[Exceeded, ...]]:
    """The status, and every limit that was reached.

    :param largest_file: the size of the largest file it wrote, in bytes.
    """
    how = ended(report)
    exceeded = _exceeded(report, how, counters, limits, timeout, stderr, largest_file)
    names = {one.limit for one in exceeded}
    if "memory" in names and how != Exited(0):
        return OutOfMemory(int(limits.memory or 0), how), exceeded
    if report["timed_out"]:
        return TimedOut(timeout or 0.0, how), exceeded
    if how == Signaled(signal.SIGSYS):
        return Denied(), exceeded
    return how, exceeded


def _exceeded(
    report: dict[str, Any], how: Exited | Signaled, counters: Counters | None, limits: Limits, timeout: float | None, stderr: bytes, largest_file: int,
) -> tuple[Exceeded, ...]:
    # A shell tells its child's signal as 128 + its number.
    died_of = how.signal if isinstance(how, Signaled) else how.code - 128
    failed = how != Exited(0)
    said = stderr.decode(errors="replace")
    found = []
    if report["timed_out"]:
        found.append(Exceeded("timeout", f"it ran longer than {timeout:g} s"))
    if counters and counters.oom_kills:
        found.append(Exceeded("memory", f"the kernel killed {counters.oom_kills} of its processes at {limits.memory} bytes"))
    elif "memory" in report["exceeded"]:
        found.append(Exceeded("memory", f"its processes used more than {limits.memory} bytes"))
    if counters and counters.forks_refused:
        found.append(Exceeded("processes", f"the kernel refused {counters.forks_refused} more than {limits.processes} at once"))
    elif "processes" in report["exceeded"] and failed:
        found.append(Exceeded("processes", f"{limits.processes} were there at once, and the kernel refuses more"))
    elif limits.processes is not None and counters is None and failed and any(words in said for words in _EAGAIN):
        # Between two looks a program can meet the limit and be gone again.
        found.append(Exceeded("processes", f"it said {_EAGAIN[0]!r} (EAGAIN), and may be {limits.processes} at once"))
    if limits.cpu_seconds is not None and (
        died_of == signal.SIGXCPU or (died_of == signal.SIGKILL and sum(report["usage"][:2]) >= limits.cpu_seconds)
    ):
        found.append(Exceeded("cpu_seconds", f"{signal_name(died_of)} after {limits.cpu_seconds} s of CPU time"))
    if isinstance(limits.file_size, int):
        if died_of == signal.SIGXFSZ:
            found.append(Exceeded("file_size", f"SIGXFSZ at {limits.file_size} bytes"))
        elif failed and largest_file >= limits.file_size:
            found.append(Exceeded("file_size", f"a file reached {limits.file_size} bytes, and the kernel refuses more (EFBIG)"))
    if limits.open_files is not None and failed and any(words in said for words in _EMFILE):
        found.append(Exceeded("open_files", f"it said {_EMFILE[0]!r} (EMFILE), and may have {limits.open_files} at once"))
    if failed:
        found += [Exceeded("space", f"{path} is full (ENOSPC)") for path in report["full"]]
    return tuple(found)

"""Who is in a jail, read from the jail's own /proc."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from pytest_nsjail.kernel.numbers import numbers

_PAGE = os.sysconf("SC_PAGE_SIZE")
# The calls that wait for a time; those that may wait for descriptors too, with the place of how many these are, else -1.
_NAPS = (("nanosleep", -1), ("clock_nanosleep", -1), ("select", 0), ("pselect6", 0), ("poll", 1), ("ppoll", 1))


class Seen(NamedTuple):
    """One process, by its pid inside the jail."""

    pid: int
    argv: list[str]


class Activity(NamedTuple):
    """What everybody does at one moment.

    :param pids: who is there.
    :param asleep: whether nobody runs, or waits for a processor, a disk, or a time to come (nanosleep(2)).
    :param ticks: the processor time that they have used, in clock ticks.
    """

    pids: tuple[int, ...]
    asleep: bool
    ticks: int

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> Activity:
        """From the wire, where tuples became lists."""
        return cls(tuple(encoded["pids"]), encoded["asleep"], encoded["ticks"])


def pids(proc: str = "/proc") -> list[int]:
    """Everybody but the init and the dead, by pid.

    :param proc: where the jail's own is.
    """
    found = []
    for name in os.listdir(proc):
        if name.isdigit() and name != "1" and _state(int(name), proc) not in ("Z", "X", ""):
            found.append(int(name))
    return sorted(found)


def descended(proc: str) -> list[int]:
    """Everybody whose parent is in the jail, too: not who came in from outside."""
    return [pid for pid in pids(proc) if _field(pid, 1, proc) != 0]


def seen(among: list[int] | None = None, proc: str = "/proc") -> list[Seen]:
    """Everybody with their arguments, or those ``among`` them; a process that ends meanwhile is left out."""
    found = []
    for pid in pids(proc) if among is None else among:
        try:
            with open(f"{proc}/{pid}/cmdline", "rb") as file:
                arguments = file.read().split(b"\0")[:-1]
            if not arguments:
                with open(f"{proc}/{pid}/comm", "rb") as file:
                    arguments = [file.read().rstrip(b"\n")]
        except OSError:
            continue
        found.append(Seen(pid, [os.fsdecode(argument) for argument in arguments]))
    return found


def alone() -> bool:
    """Whether nobody but the init is left: kill(2) with -1 then finds nobody."""
    try:
        os.kill(-1, 0)
    except ProcessLookupError:
        return True
    return not pids()


def holders(inodes: set[int]) -> dict[int, list[int]]:
    """Who has a socket, by its inode number: the pids of everybody who holds a descriptor of it."""
    found: dict[int, list[int]] = {}
    for pid in pids():
        try:
            held = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for fd in held:
            try:
                what = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            # proc_pid_fd(5): socket:[inode]
            if what.startswith("socket:[") and (inode := int(what[8:-1])) in inodes and pid not in found.setdefault(inode, []):
                found[inode].append(pid)
    return found


def activity() -> Activity:
    """What everybody does now, thread by thread."""
    there, asleep, ticks = [], True, 0
    for pid in pids():
        there.append(pid)
        fields = _stat(pid)
        ticks += int(fields[11]) + int(fields[12]) if fields else 0
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            task = f"{pid}/task/{thread}"
            asleep = asleep and _state(task) in ("S", "Z", "X", "") and not _naps(task)
    return Activity(tuple(there), asleep, ticks)


def leader(thread: int) -> int:
    """The process of a thread.

    :raises OSError: where there is no such thread.
    """
    with open(f"/proc/{thread}/status", "rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"Tgid:"))


def session(leader: int) -> list[int]:
    """The processes of one session, its leader's children and theirs as long as they stay in it."""
    return [pid for pid in pids() if pid == leader or _field(pid, 3) == leader]


def tasks() -> int:
    """How many processes and threads there are, the init left out."""
    return sum(_field(pid, 17) for pid in pids())


def memory() -> int:
    """What all processes use in memory that is theirs, in bytes.

    Anonymous pages (proc_pid_statm(5): resident less shared) are a quick upper bound, for a page shared after a fork counts in
    each process.
    """
    total = 0
    for pid in pids():
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                _, resident, shared = file.read().split()[:3]
        except (OSError, ValueError):
            continue
        total += (int(resident) - int(shared)) * _PAGE
    return total


def proportional_memory() -> int:
    """What all processes use in memory, a shared page counted once (proc_pid_smaps(5), Pss_Anon): exact, and slow."""
    total = 0
    for pid in pids():
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                for line in file:
                    if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
                        total += int(line.split()[1]) << 10
        except OSError:
            continue
    return total


def _naps(task: str) -> bool:
    """Whether a thread waits for nothing but a time: in nanosleep(2), or in select(2) or poll(2) of no descriptor. No, where that is not told."""
    try:
        with open(f"/proc/{task}/syscall", "rb") as file:
            call, *arguments = file.read().split()
        # proc_pid_syscall(5): "running", or the number and six arguments.
        known, made = numbers(), int(call)
        return any(known.get(name) == made and (place < 0 or int(arguments[place], 16) == 0) for name, place in _NAPS)
    except (OSError, ValueError, IndexError):
        return False


def _stat(pid: int | str, proc: str = "/proc") -> list[bytes]:
    # By the bare calls: this is read between two tests, and a file object asks the kernel six times as often.
    try:
        fd = os.open(f"{proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, 4096)
        finally:
            os.close(fd)
    except OSError:
        return []
    # The second field, a name in parentheses, can hold spaces and parentheses itself.
    return text.rpartition(b")")[2].split()


def _state(pid: int | str, proc: str = "/proc") -> str:
    fields = _stat(pid, proc)
    return fields[0].decode() if fields else ""


def _field(pid: int, index: int, proc: str = "/proc") -> int:
    fields = _stat(pid, proc)
    return int(fields[index]) if fields else 0

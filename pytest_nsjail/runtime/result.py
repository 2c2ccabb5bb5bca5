"""What happened to one program, to assert on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pytest_nsjail.errors import NsjailError, SpecError
from pytest_nsjail.image.changes import Changes
from pytest_nsjail.jail.handle import Process
from pytest_nsjail.jail.outcome import Usage
from pytest_nsjail.jail.status import Exceeded, Exited, NotStarted, OutOfMemory, Signaled, Status, TimedOut
from pytest_nsjail.network.observed import Attempt

TAIL_LINES = 12
_BRIEF = 60
# Of the attempts to reach what is not there.
_SHOWN = 8


def tails(stdout: str, stderr: str, most: int) -> list[str]:
    """The last lines of two outputs, at most so many of each, with a line above that says how many there are; of one that is empty, none."""
    lines = []
    for name, text in (("stdout", stdout), ("stderr", stderr)):
        if text:
            kept = text.splitlines()
            lines += [f"--- {name}{f', the last {most} of {len(kept)} lines' if len(kept) > most else ''}", *kept[-most:]]
    return lines


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What happened to one program.

    :param argv: what was run, the image's entrypoint included.
    :param status: how it ended; see :data:`Status`.
    :param stdout_bytes: what it wrote to its standard output; of the first 64 MiB.
    :param stderr_bytes: what it wrote to its standard error; of the first 64 MiB.
    :param duration: seconds from its start to its end.
    :param usage: CPU time and memory, by the kernel's accounting.
    :param changes: what it wrote to its root file system.
    :param leftovers: the processes that were alive when it had ended, and that were killed then.
    :param host_pid: its process id on the host while it lived; 0 if it never did.
    :param exceeded: every limit that it reached, with the evidence.
    :param truncated: bytes of output that were dropped, beyond the first 64 MiB of each stream.
    :param reached: see :attr:`refused`; why it is not known, or None where nobody was to see it.
    """

    argv: tuple[str, ...]
    status: Status
    stdout_bytes: bytes
    stderr_bytes: bytes
    duration: float
    usage: Usage
    changes: Changes
    leftovers: tuple[Process, ...]
    host_pid: int
    exceeded: tuple[Exceeded, ...]
    truncated: int
    reached: tuple[Attempt, ...] | NsjailError | None = None

    @property
    def refused(self) -> tuple[Attempt, ...]:
        """What the programs of its jail tried to reach where nobody is, as :attr:`Jail.refused`; the main program's result has it.

        :raises SpecError: without ``observe=True``, and of another program's result.
        :raises Unsupported: where this host does not let it be seen.
        """
        if self.reached is None:
            raise SpecError("refused", "this program was not observed", "Write observe=True, and ask the result of the jail's main program.")
        if isinstance(self.reached, NsjailError):
            raise self.reached
        return self.reached

    @property
    def stdout(self) -> str:
        """Its standard output as text; what is no UTF-8 is kept as surrogates, as :func:`os.fsdecode` does."""
        return self.stdout_bytes.decode(errors="surrogateescape")

    @property
    def stderr(self) -> str:
        """Its standard error as text, likewise."""
        return self.stderr_bytes.decode(errors="surrogateescape")

    @property
    def ok(self) -> bool:
        """Whether it exited with 0, in time."""
        return self.status == Exited(0)

    @property
    def returncode(self) -> int | None:
        """As :attr:`subprocess.CompletedProcess.returncode`: negative for a signal. None for a program that never ran."""
        match self.status:
            case Exited(code):
                return code
            case Signaled(signal):
                return -signal
            case TimedOut(_, ended) | OutOfMemory(_, ended):
                return ended.code if isinstance(ended, Exited) else -ended.signal
            case NotStarted():
                return None
            case _:
                return -31  # SIGSYS, by which a seccomp filter kills

    def written(self) -> tuple[int, int]:
        """How many bytes of each output there are."""
        return len(self.stdout_bytes), len(self.stderr_bytes)

    def report(self, since: tuple[int, int] = (0, 0)) -> str:
        """Several lines for a person: the command, what became of it, and the end of both outputs.

        :param since: how many bytes of each are left out at its beginning.
        """
        took = "" if isinstance(self.status, (NotStarted, TimedOut)) else f" after {self.duration:.3f} s"
        lines = [f"$ {shlex.join(self.argv)}", f"{self.status}{took}"]
        lines += [f"limit reached: {one}" for one in self.exceeded]
        lines += [f"not there: {one}" for one in (self.reached if isinstance(self.reached, tuple) else ())[:_SHOWN]]
        lines += [f"left over: pid {process.pid} {shlex.join(process.argv)}" for process in self.leftovers]
        out, err = self.stdout_bytes[since[0] :], self.stderr_bytes[since[1] :]
        lines += tails(out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape"), TAIL_LINES)
        return "\n".join(lines).encode(errors="replace").decode()

    def __repr__(self) -> str:
        said = next((line for line in reversed((self.stderr or self.stdout).splitlines()) if line.strip()), "")
        command = shlex.join(self.argv)
        brief = command if len(command) <= _BRIEF else command[: _BRIEF - 3] + "..."
        last = f", saying {said[-_BRIEF:].strip()!r}" if said and not self.ok else ""
        return f"<Result of {brief}: {self.status}{last}>"

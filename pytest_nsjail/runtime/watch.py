"""A condition that is waited for: what every kind of them has, and the simple kinds."""

from __future__ import annotations

import codecs
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_nsjail.errors import JailEnded, SetupError, SpecError
from pytest_nsjail.jail.sockets import Sockets
from pytest_nsjail.jail.status import NotStarted
from pytest_nsjail.spec.ready import TIMEOUT, Exec, Log, Notify

if TYPE_CHECKING:
    from pytest_nsjail.runtime.execution import Execution
    from pytest_nsjail.runtime.jail import Jail

# Between two executions of a command, in seconds: at first and at last.
_AGAIN, _AGAIN_AT_LAST = 0.02, 0.5
# How far back from what is new a match may begin, in characters.
_LONGEST_MATCH = 1 << 16


@dataclass(frozen=True)
class Subject:
    """Whose conditions are waited for.

    :param starting: whether it is to become what it was started for, and not anything later.
    :param shared: whether its network is others' as well.
    :param notified: whether it was given a ``$NOTIFY_SOCKET``.
    :param output: what the program wrote beyond these offsets of its standard output and error.
    :param execute: starts a command in the jail, and gives it so many seconds.
    """

    jail: Jail
    sockets: Sockets
    starting: bool
    shared: bool
    notified: bool
    output: Callable[[tuple[int, int]], tuple[bytes, bytes]]
    execute: Callable[[tuple[str, ...], float], Execution]


class Watch(Protocol):
    """One condition, looked at again and again, by somebody who also sees when the program ends."""

    def met(self) -> bool:
        """Look whether it is true now; never waits."""

    def lost(self) -> str | None:
        """Why it is given up, as a clause: its time is over, or it will not be true any more; None: it may be yet."""

    def close(self) -> None:
        """Let go of what it took to look."""


class Timed(ABC):
    """What has a time of its own.

    :param condition: as the user wrote it.
    :param timeout: seconds from now on.
    """

    def __init__(self, condition: object, timeout: float) -> None:
        self.condition, self._timeout = condition, timeout
        self._deadline = time.monotonic() + timeout

    @property
    def left(self) -> float:
        """How many seconds are left."""
        return max(0.0, self._deadline - time.monotonic())

    def lost(self) -> str | None:
        return None if self.left else f"{self.condition!r}: after {self._timeout:g} s {self.seen()}"

    @abstractmethod
    def seen(self) -> str:
        """How it is instead, as a clause."""

    def close(self) -> None:
        """Give back what it holds: nothing, unless told."""
        return


class LogWatch(Timed):
    """A line, or what else matches, in what the program writes."""

    def __init__(self, subject: Subject, condition: Log) -> None:
        super().__init__(condition, condition.timeout)
        self._subject = subject
        self._pattern = re.compile(condition.pattern, re.MULTILINE)
        self._decoders = [codecs.getincrementaldecoder("utf-8")("surrogateescape") for _ in range(2)]
        self._read = [0, 0]
        self._text = ["", ""]

    def met(self) -> bool:
        ended = self._subject.jail.ended
        new = self._subject.output((self._read[0], self._read[1]))
        return any(self._look(stream, data, ended=ended) for stream, data in enumerate(new) if data or ended)

    def _look(self, stream: int, data: bytes, *, ended: bool) -> bool:
        self._read[stream] += len(data)
        text = self._text[stream] + self._decoders[stream].decode(data, ended)
        # What is written next may go on where this stops, and so the end of what there is ends no line. What was cut off leaves a character
        # behind, that tells whether a line begins after it.
        match = self._pattern.search(text if ended else f"{text}\0", int(len(self._text[stream]) > _LONGEST_MATCH))
        self._text[stream] = text[-_LONGEST_MATCH - 1 :]
        return match is not None and match.end() <= len(text)

    def seen(self) -> str:
        said = f"nothing that it wrote matches ({self._read[0]} bytes on stdout, {self._read[1]} on stderr)"
        # setvbuf(3): what is no terminal is written to by the block.
        return said if any(self._read) else f"{said}. Many programs keep back what they write to a pipe: python -u, stdbuf -oL"


class NotifyWatch(Timed):
    """What the program says of itself."""

    def __init__(self, subject: Subject, condition: Notify) -> None:
        if not subject.notified:
            raise SpecError(repr(condition), "the program was started without $NOTIFY_SOCKET", "Write ready=Notify() where it is started.")
        super().__init__(condition, condition.timeout)
        self._subject = subject
        self._status = ""

    def met(self) -> bool:
        try:
            ready, self._status = self._subject.sockets.notices()
        except JailEnded:
            return False
        return ready

    def seen(self) -> str:
        return f"it has not said READY=1{f', and its last word was STATUS={self._status}' if self._status else ''}"


class ExecWatch(Timed):
    """A command that is executed until it exits with 0."""

    def __init__(self, subject: Subject, condition: Exec) -> None:
        super().__init__(condition, condition.timeout)
        self._subject = subject
        self._argv = condition.argv
        self._running: Execution | None = None
        self._pause, self._next = _AGAIN, 0.0
        self._last = ""
        self._impossible = False

    def met(self) -> bool:
        try:
            if self._running is None:
                if time.monotonic() < self._next or not self.left or self._subject.jail.ended:
                    return False
                self._running = self._subject.execute(self._argv, self.left)
            if not self._running.over():
                return False
            result, self._running = self._running.result(), None
        except SetupError:
            if self._subject.jail.ended:
                return False
            raise
        self._last = result.report()
        self._impossible = isinstance(result.status, NotStarted)
        self._next = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _AGAIN_AT_LAST)
        return result.ok

    def lost(self) -> str | None:
        return f"{self.condition!r}: {self.seen()}" if self._impossible else super().lost()

    def seen(self) -> str:
        return f"the command has not succeeded; the last time:\n{self._last}" if self._last else "the command still ran"

    def close(self) -> None:
        if self._running is not None:
            with suppress(SetupError):  # it went with its jail
                self._running.abandon()
            self._running = None


class CallWatch(Timed):
    """A function of the jail. An OSError (ConnectionRefusedError, FileNotFoundError) is a no like any other."""

    def __init__(self, subject: Subject, function: Callable[[Jail], object]) -> None:
        super().__init__(function, TIMEOUT)
        self._subject, self._function = subject, function
        self._pause, self._next = _AGAIN / 10, 0.0
        self._said = ""

    def met(self) -> bool:
        if time.monotonic() < self._next:
            return False
        try:
            answer = self._function(self._subject.jail)
        except OSError as error:
            answer, self._said = None, f"raised {type(error).__name__}: {error}"
        except SetupError:
            if self._subject.jail.ended:
                return False
            raise
        else:
            self._said = f"returned {answer!r}"
        self._next = time.monotonic() + self._pause
        self._pause = min(self._pause * 1.5, _AGAIN_AT_LAST / 5)
        return bool(answer)

    def seen(self) -> str:
        return f"it last {self._said}"

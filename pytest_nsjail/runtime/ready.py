"""Waiting until a program is ready: its conditions against its end.

Looking costs microseconds, and so it is looked often; the pause between two looks is a wait for the program's end, which therefore is noticed at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_nsjail.errors import NotReady, NsjailError
from pytest_nsjail.runtime.answer import HttpWatch
from pytest_nsjail.runtime.listening import ListeningWatch, UnixWatch
from pytest_nsjail.runtime.result import TAIL_LINES, tails
from pytest_nsjail.runtime.watch import CallWatch, ExecWatch, LogWatch, NotifyWatch, Subject, Watch
from pytest_nsjail.spec.ready import All, Any, Exec, Http, Listening, Log, Notify, Ready, Unix

if TYPE_CHECKING:
    from pytest_nsjail.runtime.jail import Jail

# Between two looks, in seconds: at first and at last.
_PAUSE, _PAUSE_AT_LAST = 0.0005, 0.01
_GROWTH = 1.2


def wait(subject: Subject, condition: Ready, ended: Callable[[float], bool]) -> None:
    """Wait until a condition is true.

    What was true when the program ended counts.

    :param ended: waits so many seconds at the most for the program's end.
    :raises NotReady: where it ended before, or the condition's time is over.
    """
    watch = _watch(subject, condition)
    pause = _PAUSE
    try:
        while True:
            over = ended(0.0)
            if watch.met():
                return
            if over:
                result = subject.jail.wait()
                raise NotReady(f"{result.status} before it was ready: {condition!r}\n{result.report()}", condition, result.status)
            if reason := watch.lost():
                raise NotReady(f"not ready: {reason}\n{_seen(subject.jail)}", condition)
            ended(pause)
            pause = min(pause * _GROWTH, _PAUSE_AT_LAST)
    finally:
        watch.close()


class _AllWatch:
    """Several conditions, each of which is true at some time."""

    def __init__(self, watches: Iterable[Watch]) -> None:
        self._watches = list(watches)

    def met(self) -> bool:
        for watch in [watch for watch in self._watches if watch.met()]:
            watch.close()
            self._watches.remove(watch)
        return not self._watches

    def lost(self) -> str | None:
        return next((reason for watch in self._watches if (reason := watch.lost())), None)

    def close(self) -> None:
        for watch in self._watches:
            watch.close()


class _AnyWatch(_AllWatch):
    """Several conditions, one of which is true."""

    def __init__(self, watches: Iterable[Watch]) -> None:
        super().__init__(watches)
        self._reasons: list[str] = []

    def met(self) -> bool:
        return any(watch.met() for watch in self._watches)

    def lost(self) -> str | None:
        for watch in list(self._watches):
            if reason := watch.lost():
                self._reasons.append(reason)
                watch.close()
                self._watches.remove(watch)
        return None if self._watches else "; ".join(self._reasons)


def _watch(subject: Subject, condition: Ready) -> Watch:
    match condition:
        case Listening():
            return ListeningWatch(subject, condition)
        case Http():
            return HttpWatch(subject, condition)
        case Unix():
            return UnixWatch(subject, condition)
        case Log():
            return LogWatch(subject, condition)
        case Notify():
            return NotifyWatch(subject, condition)
        case Exec():
            return ExecWatch(subject, condition)
        case All():
            return _AllWatch(_watch(subject, one) for one in condition.conditions)
        case Any():
            return _AnyWatch(_watch(subject, one) for one in condition.conditions)
        case _:
            return CallWatch(subject, condition)


def _seen(jail: Jail) -> str:
    """What a person wants to know of a jail in which something has not come."""
    try:
        listeners = jail.listeners()
        running = jail.processes()
    except NsjailError as error:
        lines = [str(error)]
    else:
        lines = [f"listens: {one}" for one in listeners] or ["nobody in the jail listens on anything"]
        having = {one.process.pid for one in listeners if one.process}
        lines += [f"runs: process {one.pid} ({shlex.join(one.argv)})" for one in running if one.pid not in having]
    return "\n".join([f"$ {shlex.join(jail.spec.command())}", *lines, *tails(jail.stdout, jail.stderr, TAIL_LINES)])

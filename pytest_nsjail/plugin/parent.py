"""The parent: waits in each phase for the child's report of it, and lets pytest go on as if it had been here."""

from __future__ import annotations

import contextlib
import copy
import os
import select
import signal
import warnings
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_nsjail.errors import NsjailError
from pytest_nsjail.kernel import wire
from pytest_nsjail.plugin import brief, carrier, deaths, options, private, warned
from pytest_nsjail.plugin.adaptor import Adaptor
from pytest_nsjail.plugin.clock import Clock
from pytest_nsjail.plugin.coded import decoded
from pytest_nsjail.plugin.output import Output
from pytest_nsjail.plugin.report import unpacked

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Cell, Ending

# What an interrupted child may take to tear its test down, in seconds.
_TEARS_DOWN = 5.0
_OURS = frozenset(f"pytest_nsjail.plugin.{name}" for name in ("split", "parent", "carrier"))
_ORDER = {"stdout": 0, "stderr": 1, "log": 2}


class Parent:
    """One item, whose test runs in a child.

    :param output: what pytest captures to.
    :param strict: whether processes that the test left fail it.
    :param died: called when the child ends before its time.
    """

    def __init__(
        self, item: pytest.Item, cell: Cell, clock: Clock, output: Output, adaptors: list[Adaptor], *, strict: bool, died: Callable[[], None],
    ) -> None:
        self._died = died
        self.item, self._cell, self._clock, self._output, self._adaptors, self._strict = item, cell, clock, output, adaptors, strict
        self._alive = True
        self._raised: BaseException | None = None
        self._report: pytest.TestReport | None = None
        self._last: pytest.TestReport | None = None
        self._about: list[tuple[str, str]] = []
        self._sections: list[private.Section] = []
        self._queue: deque[dict[str, Any]] = deque()
        self._poll = select.poll()
        self._poll.register(cell.channel, select.POLLIN)
        try:
            # A process of the test's may keep the channel open when the test is dead.
            self._pidfd = os.pidfd_open(cell.pid)
            self._poll.register(self._pidfd, select.POLLIN)
        except OSError:
            self._pidfd = -1
        clock.start()

    def phase(self, when: str) -> None:
        """Wait for a phase of the child's, and raise here what was raised there."""
        __tracebackhide__ = True
        if not self._alive:
            return
        if when != "setup" and not self._output.apart:
            self._say(when)
        body = self._until(when)
        self._report = self._read(body, when)
        if when == "teardown":
            ending = self._end(when, body)
            if self._strict and ending.leftovers and "raised" not in body:
                text = f"the test left {len(ending.leftovers)} processes running (nsjail_leftovers = fail):\n{deaths.leftovers(ending)}"
                carrier.fail(text)
        if "raised" in body:
            self._raised = carrier.heard(body["raised"])
            carrier.raised_by(self._raised, body["raised"].get("frames", []))

    def make_report(self, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the child's report in the place of what this process made of it."""
        report = self._report
        here = call.excinfo is not None and call.excinfo.value is not self._raised
        captured: list[tuple[str, str]] = []
        if report is not None:
            captured = [private.title(one) for one in self._sections]
            # What this process captured before the fork, the child had too; what after it, in a tear-down, comes behind the child's.
            private.sections(self.item)[:] = _merged(private.sections(self.item)) if call.when == "teardown" else self._sections
        if here and self._raised is not None:
            # Among others, it is shown with them.
            self._raised.__traceback__ = brief.cut_frames(self._raised.__traceback__, _OURS)
        computed = yield
        self._report = None
        if report is None or here:
            # The child died, or something went wrong here alone, as in the tear-down of a fixture of a higher scope.
            report = computed
        elif call.when == "teardown":
            others = [one for one in report.sections if one not in captured]
            report.sections = [*(private.title(one) for one in private.sections(self.item)), *others]
        self._last = report
        if call.when == "teardown":
            report.start, report.stop, report.duration = call.start, call.stop, call.duration
        if self._about:
            # The terminal shows of a tear-down what says that it is of it.
            at = " at teardown" if call.when == "teardown" else ""
            report.sections += [(title + at, text) for title, text in self._about]
            self._about = []
        return report

    def seen(self, call: pytest.CallInfo[None]) -> pytest.TestReport | None:
        """What other plugins' wrappers see as the report of this phase, and may change."""
        if self._report is None or (call.excinfo is not None and call.excinfo.value is not self._raised):
            return None
        report = copy.copy(self._report)
        report.sections, report.user_properties = list(report.sections), list(report.user_properties)
        return report

    def give_up(self) -> dict[str, Any] | None:
        """End the child before its time, as pytest was interrupted. It hears of that, and may tear its test down.

        :return: its last word.
        """
        if not self._alive:
            return None
        told = None
        with contextlib.suppress(OSError, ValueError, NsjailError):
            self._cell.kill(signal.SIGINT)
            while self._poll.poll(_TEARS_DOWN * 1000) and self._ready() and (said := self._cell.receive()) is not None:
                if said.body.get("kind") == "left":
                    told = said.body
                    break
        with contextlib.suppress(OSError):
            self._cell.kill()
        self._end("interrupt", told)
        return told

    def _say(self, when: str, **more: Any) -> None:
        session = self.item.session
        # Whether it still is there is seen in the waiting.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(self._cell.channel, {"at": when, "stop": [session.shouldstop, session.shouldfail], **more})

    def _until(self, when: str) -> dict[str, Any]:
        """The child's message of this phase; what comes before it is passed on.

        :raises BaseException: what ends the session, or pytest's failure for a child that cannot tell any more.
        """
        __tracebackhide__ = True
        debugged = False
        while True:
            try:
                body = self._next(when)
            except (KeyboardInterrupt, SystemExit, pytest.exit.Exception) as error:
                if debugged and isinstance(error, KeyboardInterrupt):
                    # It is for who sits before the debugger.
                    self._cell.kill(signal.SIGINT)
                    continue
                told = self.give_up()
                if told is not None and isinstance(error, KeyboardInterrupt) and told.get("how") == "interrupt":
                    _interrupt(told)
                raise
            kind = body.get("kind")
            try:
                self._take(body)
                if kind == "log":
                    self._log(body, when)
                if kind in ("log", "step"):
                    # What it writes to the terminal goes on where this process has ended.
                    self._say(when, screen=private.screen(self.item.config))
                    continue
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                self._fail(when, f"the test's process told what is no message during {when}: {error!r}")
            if kind == "debugger":
                debugged = True
                self._clock.stop()
            elif kind == "left":
                self._left(body, when)
            elif kind == "phase" and body.get("when") == when:
                return body
            elif not self._output.apart:
                # It is behind: this process has skipped a phase.
                self._say(when)

    def _next(self, when: str) -> dict[str, Any]:
        """The next message; no message is a failure."""
        __tracebackhide__ = True
        if self._queue:
            return self._queue.popleft()
        channel = self._cell.channel
        left = self._clock.left()
        events = dict(self._poll.poll(None if left is None else left * 1000))
        if not events:
            stacks = self._clock.ask(self._cell.kill)
            with contextlib.suppress(OSError):
                self._cell.kill()
            self._end(when, None)
            carrier.fail(f"the test took longer than its timeout of {self._clock.seconds:g} s, during {when}\n{stacks}".rstrip())
        if channel.fileno() in events or self._ready():
            try:
                if (said := self._cell.receive()) is not None:
                    self._hear(said)
                    # A child that waits for nobody may have said more, and its jail has still to see what it left.
                    while self._output.apart and self._ready() and (said := self._cell.receive()) is not None:
                        self._hear(said)
                    return self._queue.popleft()
            except NsjailError as error:
                with contextlib.suppress(OSError):
                    self._cell.kill()
                self._end(when, None)
                options.unavailable(self.item.config, error)
            except ValueError as error:
                self._fail(when, f"the test's process told what is no message during {when}: {error}")
        ending = self._end(when, None)
        carrier.fail(next(filter(None, (adaptor.death() for adaptor in self._adaptors)), "") or deaths.died(ending, when))

    def _hear(self, said: wire.Received) -> None:
        for fd in said.fds:
            os.close(fd)
        self._queue.append(said.body)
        if said.body.get("kind") == "phase" and said.body.get("when") == "teardown":
            self._cell.spoken()

    def _ready(self) -> bool:
        """Whether a message is there: its sender may be dead since."""
        return bool(select.select([self._cell.channel], [], [], 0)[0])

    def _fail(self, when: str, text: str) -> NoReturn:
        __tracebackhide__ = True
        with contextlib.suppress(OSError):
            self._cell.kill()
        self._end(when, None)
        carrier.fail(text)

    def _take(self, body: dict[str, Any]) -> None:
        """What has changed in the child since its last message."""
        item = self.item
        self._sections = [(str(when), str(key), str(text)) for when, key, text in body["sections"]]
        private.sections(item)[:] = self._sections
        if "properties" in body:
            item.user_properties[:] = decoded(body["properties"])
        for one in body.get("warnings", ()):
            private.record_warning(warned.heard(one))
        for name, args, kwargs in body.get("marks", ()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                item.add_marker(private.mark(str(name), decoded(args), decoded(kwargs)))
        if "subtests" in body:
            private.set_failed_subtests(item, int(body["subtests"]))
        if "shown" in body and self._last is not None:
            vars(self._last)["_pdbshown"] = True
        if "screen" in body:
            private.set_screen(item.config, body["screen"])
        if "stop" in body:
            stop, fail = body["stop"]
            item.session.shouldstop = stop or item.session.shouldstop
            item.session.shouldfail = fail or item.session.shouldfail

    def _log(self, body: dict[str, Any], when: str) -> None:
        """A report that is none of a phase: a subtest's."""
        config = self.item.config
        report = unpacked(self.item, body["report"], body["report"]["when"])
        with contextlib.nullcontext() if body["captured"] else private.uncaptured(config):
            self.item.ihook.pytest_runtest_logreport(report=report)
        if body["captured"] and (terminal := private.writer(config)) is not None:
            terminal.flush()
            self._output.hand_over()

    def _read(self, body: dict[str, Any], when: str) -> pytest.TestReport:
        __tracebackhide__ = True
        try:
            return unpacked(self.item, body["report"], when)
        except (KeyError, ValueError, TypeError, AttributeError, AssertionError) as error:
            self._fail(when, f"the test's process told what is no report of {when}: {error!r}")

    def _left(self, body: dict[str, Any], when: str) -> None:
        """The child has left its protocol: so does this process, in the same way."""
        __tracebackhide__ = True
        how, text = body.get("how"), str(body.get("text"))
        self._end(when, body)
        if how == "exit":
            code = body.get("code")
            raise pytest.exit.Exception(text, code if isinstance(code, int) else None)
        if how == "interrupt":
            _interrupt(body)
        carrier.fail(f"pytest itself failed in the test's process during {when}:\n{text}")

    def _end(self, when: str, body: dict[str, Any] | None) -> Ending:
        """The child has ended, or is about to."""
        __tracebackhide__ = True
        self._alive = False
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._clock.close()
        if body is None:
            self._died()
        # Who told all that it had to tell exits by itself.
        ending = self._cell.end(expected=body is not None)
        self._output.come_back()
        told = (body or {}).get("told") or [{}] * len(self._adaptors)
        carried: set[str] = set()
        for adaptor, one in zip(self._adaptors, told, strict=True):
            carried.update(adaptor.parent_after(self.item, one.get("told"), ending))
            if "error" in one:
                carrier.fail(f"{type(adaptor).__name__} failed in the test's process:\n{one['error']}")
        left, written = deaths.leftovers(ending), deaths.written(ending, carried)
        if left:
            self._about.append(("nsjail: leftovers", left))
        if written:
            self._about.append(("nsjail: written in the project, and gone", written))
        return ending


def _interrupt(body: dict[str, Any]) -> NoReturn:
    """A keyboard's interrupt, where the child had it."""
    text = str(body.get("text") or "")
    error = KeyboardInterrupt(*([text] if text else []))
    # What this process heard of it is no part of the story.
    error.__suppress_context__ = True
    carrier.raised_at(error, str(body.get("path")), int(body.get("line", 1)))


def _merged(sections: list[private.Section]) -> list[private.Section]:
    """What was captured in the child and then here is one section for each stream of a tear-down, in pytest's order."""
    texts: dict[tuple[str, str], str] = {}
    others: list[private.Section] = []
    for when, key, text in sections:
        if when != "teardown" or key not in _ORDER:
            others.append((when, key, text))
        elif (when, key) in texts:
            texts[when, key] += "\n" * (key == "log") + text
        else:
            texts[when, key] = text
    return others + [(when, key, text) for (when, key), text in sorted(texts.items(), key=lambda one: _ORDER[one[0][1]])]

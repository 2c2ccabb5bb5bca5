"""The child: runs pytest's own protocol for one item to its end, and tells its parent of each phase."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Sequence
from posix import _exit  # not os's: coverage may have put its own there, which saves what is the parent's
from socket import socket
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_nsjail.kernel import wire
from pytest_nsjail.plugin import because, carrier, pools, private, warned
from pytest_nsjail.plugin.adaptor import Adaptor
from pytest_nsjail.plugin.coded import coded
from pytest_nsjail.plugin.report import packed

if TYPE_CHECKING:
    from pytest_nsjail.spec.isolated import IsolatedSpec

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup  # type: ignore[import-not-found]


class Child:
    """One item, in its own process.

    :param hooks: those of which others see the calls in the parent, and not here.
    :param spec: where it runs.
    :param apart: whether what it writes is no concern of its parent's: else the two go in step.
    """

    def __init__(
        self, item: pytest.Item, channel: socket, adaptors: list[Adaptor], hooks: Sequence[private.Alone], spec: IsolatedSpec, *, apart: bool,
    ) -> None:
        # Nothing that is here already will ever be garbage in this process: let the collector not touch, and so copy, the pages it is on.
        gc.freeze()
        self.item, self._channel, self._adaptors, self._spec = item, channel, adaptors, spec
        self._pid = os.getpid()
        self._at, self._calling = "setup", False
        self._report: pytest.TestReport | None = None
        self._runtest = item.runtest
        vars(item)["runtest"] = self._call
        self._marks = list(item.own_markers)
        config = item.config
        for hook in hooks:
            hook.now()
        private.quiet_item(config)
        self._finalizers = private.later_finalizers(item)
        private.hold_teardown(item, self._tear_down)
        self._warnings: list[warnings.WarningMessage] = []
        if config.pluginmanager.hasplugin("warnings"):
            recorded = warnings.catch_warnings(record=True).__enter__()
            assert recorded is not None
            self._warnings = recorded
        if faulthandler.is_enabled():
            # Where the output goes, so that it is shown with it.
            faulthandler.enable(file=2)
        pools.begin_anew()
        self._screen = private.screen(config)
        self._stop = [item.session.shouldstop, item.session.shouldfail]
        self._in_step = not apart
        if apart:
            private.before_uncaptured(config, self._catch_up)
        # How long it has waited since its set-up began, in seconds.
        self._waited = 0.0
        for adaptor in adaptors:
            adaptor.child_begins(item)

    def _call(self) -> None:
        """The test's own phase: a report within it is a subtest's."""
        self._calling = True
        try:
            self._runtest()
        finally:
            self._calling = False

    def until_its_turn(self) -> None:
        """Tell the parent that this is where the test begins, and wait for it."""
        began = time.perf_counter()
        try:
            wire.send(self._channel, {"kind": "ready"})
            said = wire.receive(self._channel)
        except BaseException:
            # As by Ctrl-C: it is no concern of who has not begun.
            _exit(0)
        if said is None:
            _exit(0)
        item = self.item
        item.session.testsfailed = said.body["failed"]
        item.session.shouldstop, item.session.shouldfail = self._stop = said.body["stop"]
        private.set_screen(item.config, said.body["screen"])
        self._screen = private.screen(item.config)
        self._waited = time.perf_counter() - began

    def make_report(self, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Tell each phase's report; where the two go in step, wait until the parent is at the next."""
        if os.getpid() != self._pid:
            # A process of the test's that came out of it where the test did.
            _exit(1)
        # Subtests are of the call's phase, whichever they are in.
        ours = call.when != "call" or (not self._calling and self._at == "call")
        if call.when == "setup":
            call.start += self._waited
            call.duration -= self._waited
        report = yield
        if not ours:
            return report
        if call.excinfo is not None and report.failed:
            self._explain(report, call.excinfo.value)
        last = call.when == "teardown"
        if last and private.interactive(call, report):
            # Pytest calls it later, when this process is no more. By then nobody waits for it, either.
            self.item.ihook.pytest_exception_interact(node=self.item, call=call, report=report)
        body: dict[str, Any] = {"kind": "phase", "when": call.when, "report": self._packed(report, whole=False)}
        if call.excinfo is not None:
            body["raised"] = carrier.told(call.excinfo.value)
            if last:
                body["raised"]["frames"] = carrier.frames(call.excinfo.value)
        if last:
            body["told"] = self._ends()
            self._tell(body)
            self._exit()
        self._tell(body)
        self._report = report
        if self._in_step:
            self._wait()
        else:
            self._at = "call" if call.when == "setup" else "teardown"
        return report

    def _explain(self, report: pytest.TestReport, error: BaseException) -> None:
        config = self.item.config
        # An exception may be anything, and what the test failed by is told in any case.
        with contextlib.suppress(Exception):
            if said := because.words(error, self._spec, (str(config.rootpath), private.base_temp(config), *self._spec.writable)):
                report.sections.append(("nsjail: isolated", said))

    def log_report(self, report: pytest.TestReport) -> None:
        """Pass on what is logged besides the phases' reports: those of subtests."""
        if type(report) is pytest.TestReport or os.getpid() != self._pid:
            return
        self._tell({"kind": "log", "report": self._packed(report, whole=True), "captured": private.capturing(self.item.config)})
        self._wait()

    def set_up(self, fixturedef: Any, request: Any) -> None:
        """Warn of a fixture that should outlive this process."""
        if request.node is self.item or str(fixturedef.func.__module__).startswith("_pytest."):
            return
        name, scope = fixturedef.argname, request.scope
        self.item.warn(warned.NsjailWarning(
            f"the {scope}-scoped fixture {name!r} is requested from within an isolated test, so that it is set up for this test alone, in its jail. "
            f"To share it, request it as an argument: def {getattr(self.item, 'originalname', None) or self.item.name}({name}, ...), "
            f"or @pytest.mark.usefixtures({name!r})."
        ))

    def _catch_up(self) -> None:
        """Something is about to be written to the terminal: not before what the parent has still to write."""
        if not self._in_step and os.getpid() == self._pid:
            self._tell({"kind": "step"})
            self._wait()

    def debugger(self) -> None:
        """Somebody sits before a debugger."""
        self._tell({"kind": "debugger"})

    def leave(self, error: BaseException | None) -> NoReturn:
        """End where no phase ended: by what ends a session, or by an error of a plugin."""
        if os.getpid() != self._pid:
            _exit(1)
        body: dict[str, Any] = {"kind": "left"}
        if isinstance(error, pytest.exit.Exception):
            body.update(how="exit", text=str(error.msg), code=error.returncode)
        elif isinstance(error, KeyboardInterrupt):
            entries = [one for one in pytest.ExceptionInfo.from_exception(error).traceback if not one.frame.f_locals.get("__tracebackhide__")]
            body.update(how="interrupt", text=str(error), path=str(entries[-1].path), line=entries[-1].lineno + 1)
        elif error is not None:
            body.update(how="error", text="".join(traceback.format_exception(error)))
        else:
            body.update(how="error", text="its protocol ended without a report of its tear-down")
        with contextlib.suppress(BaseException):
            private.tear_down(self.item)
        body["told"] = self._ends()
        self._tell(body)
        self._exit()

    def _packed(self, report: pytest.TestReport, *, whole: bool) -> dict[str, Any]:
        return packed(self.item, report, whole=whole)

    def _ends(self) -> list[Any]:
        """What each adaptor has to tell; an error of one is told in its place."""
        told: list[Any] = []
        for adaptor in self._adaptors:
            try:
                told.append({"told": adaptor.child_ends(self.item)})
            except Exception:
                told.append({"error": traceback.format_exc()})
        return told

    def _tell(self, body: dict[str, Any]) -> None:
        """Send a message, and with it what has changed since the last."""
        item = self.item
        for stream in (sys.stdout, sys.stderr, private.writer(item.config)):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
        body["sections"] = private.sections(item)
        if item.user_properties:
            body["properties"] = coded(item.user_properties)
        if getattr(self._report, "_pdbshown", False):
            # By the debugger, since the report was told: it is not shown again.
            body["shown"] = True
        if self._warnings:
            body["warnings"] = [warned.told(one) for one in self._warnings]
            self._warnings.clear()
        if len(item.own_markers) > len(self._marks):
            new = [one for one in item.own_markers if all(one is not known for known in self._marks)]
            body["marks"] = [[one.name, coded(one.args), coded(dict(one.kwargs))] for one in new]
            self._marks += new
        if failed := private.failed_subtests(item):
            body["subtests"] = failed
        if (screen := private.screen(item.config)) != self._screen:
            body["screen"] = self._screen = screen
        if (stop := [item.session.shouldstop, item.session.shouldfail]) != self._stop:
            body["stop"] = self._stop = stop
        try:
            wire.send(self._channel, body)
        except (BrokenPipeError, ConnectionResetError):
            # There is nobody any more to run for.
            _exit(1)
        except (TypeError, ValueError):
            # A plugin's data are not JSON; its texts are better than nothing.
            wire.send(self._channel, {key: _plain(value) for key, value in body.items()})

    def _wait(self) -> None:
        """Until the parent goes on."""
        said = wire.receive(self._channel)
        if said is None:
            _exit(1)
        self._at = said.body["at"]
        stop, fail = said.body["stop"]
        if stop:
            self.item.session.shouldstop = stop
        if fail:
            self.item.session.shouldfail = fail
        self._stop = [self.item.session.shouldstop, self.item.session.shouldfail]
        if "screen" in said.body:
            private.set_screen(self.item.config, said.body["screen"])
        self._screen = private.screen(self.item.config)

    def _tear_down(self, own: Callable[[Any], None], nextitem: object) -> None:
        """Tear down the item alone: what is above it is its parent's. And what was set up above it in here, by a dynamic request."""
        __tracebackhide__ = True
        errors: list[BaseException] = []
        try:
            own(_Beside(self.item, nextitem))
        except private.ERRORS as error:
            errors.append(error)
        for finalizers in reversed(self._finalizers.values()):
            while finalizers:
                try:
                    finalizers.pop()()
                except private.ERRORS as error:
                    errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup("errors during test teardown", errors[::-1])

    def _exit(self) -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        _exit(0)


class _Beside:
    """Stands for the next item, which has the same parents."""

    def __init__(self, item: pytest.Item, nextitem: object) -> None:
        self._item, self._real = item, nextitem

    def __repr__(self) -> str:
        return repr(self._real)

    def listchain(self) -> list[Any]:
        return list(self._item.listchain()[:-1])


def _plain(value: Any) -> Any:
    """The same lists and dicts, of what JSON knows."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, float, type(None))) else str(value)

"""A plugin for inner sessions: writes all that the session is told of its tests, as JSON, to the file that ``$RECORD`` names.

Nothing is left out but durations and moments; what is an object is described by its class and its fields.
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

_TIMES = ("duration", "start", "stop")
_PLAIN = (str, int, float, bool, type(None))


def described(value: Any) -> Any:
    """The value as JSON that tells a tuple from a list and one class from another."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list):
        return [described(one) for one in value]
    if isinstance(value, tuple):
        return {"tuple": [described(one) for one in value]}
    if isinstance(value, Mapping):
        return {type(value).__name__: [[described(key), described(one)] for key, one in value.items()]}
    fields = {field.name: getattr(value, field.name, "missing") for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else {}
    # A TerminalRepr that is no dataclass has its parts in its instance.
    fields.update({name: one for name, one in getattr(value, "__dict__", {}).items() if name not in fields})
    if type(value).__module__.startswith("_pytest."):
        return {type(value).__name__: {name: described(one) for name, one in sorted(fields.items())}}
    return {type(value).__name__: repr(value)}


class Recorder:
    """Keeps the events of one session in their order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = os.getpid(), os.stat("/proc/self/ns/pid").st_ino
        self.events: list[dict[str, Any]] = []

    def add(self, event: str, **fields: Any) -> None:
        """Append one; one that comes in another process than the session's is an event of the wrong process."""
        # But where a test's process begins with its protocol.
        if event == "logstart" and "RECORD_AHEAD" in os.environ and os.getpid() != self.process[0]:
            return
        if (os.getpid(), os.stat("/proc/self/ns/pid").st_ino) != self.process:
            os.write(2, f"recorder: {event} in another process: {fields!r:.200}\n".encode())
        self.events.append({"event": event, **fields})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self.add("logstart", nodeid=nodeid, location=described(location))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self.add("logfinish", nodeid=nodeid, location=described(location))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        fields = {name: described(value) for name, value in sorted(vars(report).items()) if name not in _TIMES}
        times = [type(getattr(report, name, None)).__name__ for name in _TIMES]
        # The properties look at the fields in their own way; durations are never less than nothing.
        self.add(
            "report",
            kind=type(report).__name__,
            nodeid=report.nodeid,
            fields=fields,
            times=times,
            backwards=report.duration < 0,
            longrepr=str(report.longrepr) if report.longrepr is not None else None,
            text=report.longreprtext,
            out=report.capstdout,
            err=report.capstderr,
            log=report.caplog,
            head=report.head_line,
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None) -> None:
        self.add(
            "warning",
            category=f"{warning_message.category.__module__}.{warning_message.category.__qualname__}",
            message=str(warning_message.message),
            kind=type(warning_message.message).__qualname__,
            file=warning_message.filename,
            lineno=warning_message.lineno,
            when=when,
            nodeid=nodeid,
            location=described(location),
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.add("collected", nodeid=report.nodeid, outcome=report.outcome, text=report.longreprtext)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        fields = {name: described(getattr(session, name)) for name in ("testsfailed", "testscollected", "shouldstop", "shouldfail")}
        self.add("finished", exitstatus=int(exitstatus), **fields)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        self.add("counts", **{str(name): len(reports) for name, reports in sorted(reporter.stats.items())})
        self.path.write_text(json.dumps(self.events, indent=1))


def pytest_configure(config: pytest.Config) -> None:
    if "RECORD_AHEAD" in os.environ:
        # It has no part in what it records, and a test's process may be forked ahead in spite of it; for however few tests.
        for name in ("logstart", "logfinish", "logreport"):
            getattr(Recorder, f"pytest_runtest_{name}").__module__ = "pytest_nsjail.recorder"
        Recorder.pytest_warning_recorded.__module__ = "pytest_nsjail.recorder"
        from pytest_nsjail.plugin import successor

        successor._WORTH = 1
    # xdist's workers have nothing to tell but what the session hears.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(os.environ["RECORD"])), "events")

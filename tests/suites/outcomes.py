"""A plugin for the suites' sessions: writes what became of each phase of each test to the file that ``$OUTCOMES`` names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

_SEEN: dict[str, list[str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome = f"{report.when}: {'x' if hasattr(report, 'wasxfail') else ''}{report.outcome}"
    if type(report) is not pytest.TestReport:
        outcome = f"{type(report).__name__} {outcome}"
    _SEEN.setdefault(report.nodeid, []).append(outcome)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if not report.passed:
        _SEEN.setdefault(report.nodeid, []).append(f"collect: {report.outcome}")


def pytest_sessionfinish() -> None:
    Path(os.environ["OUTCOMES"]).write_text(json.dumps(_SEEN))

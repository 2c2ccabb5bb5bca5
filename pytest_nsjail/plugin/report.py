"""Reports on their way from the child to its parent: JSON, and again the same report."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pytest_nsjail.plugin import private, shown
from pytest_nsjail.plugin.coded import coded, decoded

_KNOWN = frozenset((
    "nodeid", "location", "keywords", "outcome", "longrepr", "when", "sections", "duration", "start", "stop", "wasxfail", "$report_type", "_report_type",
    "shown",
))
_PLAIN = (str, int, float, bool, type(None))


# What every report has; and whose hooks that make data of a report, or a report of data, do nothing to one that has no more.
_ORDINARY = frozenset(("location", "keywords", "outcome", "longrepr", "when", "user_properties", "sections", "duration", "start", "stop"))
_OURS = frozenset(("reports", "subtests", "nsjail"))


def packed(item: pytest.Item, report: pytest.TestReport, *, whole: bool) -> dict[str, Any]:
    """A report as JSON.

    :param whole: with all that was captured; else without, where it is what the item has, which is told anyway.
    """
    if not whole and _says_only_passed(item, report):
        return {"passed": [report.keywords, report.duration, report.start, report.stop]}
    data: dict[str, Any] = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
    if data is None:
        raise TypeError(f"no plugin turns {type(report).__name__} into data (pytest_report_to_serializable)")
    if hasattr(report.longrepr, "toterminal") and isinstance(data.get("longrepr"), str):
        data["shown"] = shown.record(report.longrepr, item.config)
    if data.get("user_properties"):
        data["user_properties"] = {"coded": coded(data["user_properties"])}
    for key, value in data.items():
        if key not in _KNOWN and type(value) not in _PLAIN and key != "user_properties":
            data[key] = {"coded": coded(value)}
    if not whole and report.sections == captured(item):
        del data["sections"]
    return data


def unpacked(item: pytest.Item, data: dict[str, Any], when: str) -> pytest.TestReport:
    """The report again. Whose it is and of which phase is not asked: that is known.

    :raises ValueError: for what is no report.
    """
    if "passed" in data:
        keywords, duration, start, stop = data["passed"]
        # Pytest keeps every report: not with texts of its own for what the item has already.
        own = dict.fromkeys(item.keywords, 1)
        keywords = own if keywords == own else keywords
        node = private.node_id(item)
        return pytest.TestReport(node, item.location, keywords, "passed", None, when, captured(item), duration, start, stop)  # type: ignore[arg-type]
    shows = not hasattr(item.config, "workerinput")
    data = {
        key: decoded(value["coded"], shown=shows and key != "user_properties") if key not in _KNOWN and isinstance(value, dict) else value
        for key, value in data.items()
    }
    data.update(nodeid=item.nodeid, location=item.location, when=when)
    written = data.pop("shown", None)
    if "sections" not in data:
        data["sections"] = captured(item)
    report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
    if not isinstance(report, pytest.TestReport):
        raise ValueError(f"no plugin makes a report of {sorted(data)}")
    if report.outcome not in ("passed", "failed", "skipped"):
        raise ValueError(f"its outcome is {report.outcome!r}")
    private.set_subtest(report, data)
    if written is not None:
        report.longrepr = cast(Any, shown.Shown(str(report.longrepr), written))
    # JSON knows no tuples, and others look for them.
    report.sections = [(title, text) for title, text in report.sections]
    if isinstance(report.longrepr, list):
        path, line, reason = report.longrepr
        report.longrepr = (path, line, reason)
    return report


def _says_only_passed(item: pytest.Item, report: pytest.TestReport) -> bool:
    """Whether a report has nothing to say that takes any hook's call; of three phases mostly three."""
    ordinary = type(report) is pytest.TestReport and report.passed and report.longrepr is None and vars(report).keys() - private.NODE_ID == _ORDINARY
    if not ordinary or report.user_properties or report.sections != captured(item):
        return False
    hooks = item.config.hook
    both = hooks.pytest_report_to_serializable, hooks.pytest_report_from_serializable
    return all(one.plugin_name in _OURS for hook in both for one in hook.get_hookimpls())


def captured(item: pytest.Item) -> list[tuple[str, str]]:
    """What was captured of an item, as a report has it."""
    return [private.title(one) for one in private.sections(item)]

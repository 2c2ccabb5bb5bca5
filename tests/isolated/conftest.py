"""Inner sessions for the tests of isolated tests."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pytest_nsjail

_HERE = Path(__file__).parent
_PROJECT = str(Path(pytest_nsjail.__file__).parents[1])

# All that may differ between two sessions, and why.
_SAME: tuple[tuple[str, str], ...] = (
    (r"0x[0-9a-f]{5,}", "0x..."),  # an object's address
    (r"(started|stopped)( daemon)? \d{12,}", r"\1 0"),  # a thread's identity is an address, too
    (r"\bgw\d\b", "gw0"),  # the worker on which a test happened to run
)
# The structure of a failure and of a subtest's values is test_fidelity.py's; here their texts are compared. The rest is a worker's.
_CHANCE = ("$report_type", "_report_type", "longrepr", "_subtest.context", "node", "worker_id", "testrun_uid", "item_index")


class Told(NamedTuple):
    """What a session was told of its tests, without durations and what is left to chance.

    :ivar text: what it wrote to its terminal.
    :ivar events: in their order: starts, reports, warnings, the end, the counts.
    """

    result: pytest.RunResult
    text: str
    events: list[dict[str, Any]]

    def outcomes(self) -> list[tuple[str, str, str]]:
        """Of each report: whose, of which phase, and what came out."""
        found = [event for event in self.events if event["event"] == "report"]
        return [(event["nodeid"].partition("::")[2], event["fields"]["when"], event["fields"]["outcome"]) for event in found]


PlainAndJailed = Callable[..., tuple[Told, Told]]


@pytest.fixture(scope="session")
def isolated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store for all inner sessions of a worker."""
    return tmp_path_factory.mktemp("isolated") / "store"


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, isolated_store: Path) -> pytest.Pytester:
    """Inner sessions that know nothing of the outer one, with no plugin but this one."""
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "XDG_", "COV")) and name != "PYTEST_DEBUG_TEMPROOT"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [_PROJECT, str(_HERE), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("PYTEST_NSJAIL_STORE", str(isolated_store))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p nsjail -p no:cacheprovider")
    pytester.makeini("[pytest]\n")
    return pytester


@pytest.fixture
def plain_and_jailed(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> PlainAndJailed:
    """Run a session twice, plain and then with ``--nsjail``, and see that both were told the same.

    ``clean()`` is called before each of them; with ``sort`` the order of events is left to chance.
    """

    def run(*arguments: str, jailed: bool) -> Told:
        record = inner.path / "record.json"
        monkeypatch.setenv("RECORD", str(record))
        record.unlink(missing_ok=True)
        # Not by runpytest_subprocess(), whose numbered directories are collected.
        command = [sys.executable, "-m", "pytest", f"--basetemp={inner.path}.base", "-p", "recorder", *(["--nsjail"] if jailed else [])]
        result = inner.run(*command, *arguments, timeout=120)
        assert record.exists(), "the session had no end"
        return Told(result, str(result.stdout), [_compared(event) for event in json.loads(_normal(record.read_text()))])

    def both(*arguments: str, sort: bool = False, clean: Callable[[], object] = lambda: None) -> tuple[Told, Told]:
        clean()
        plain = run(*arguments, jailed=False)
        clean()
        jailed = run(*arguments, jailed=True)
        for one, other in zip(*(_sorted(told.events, sort) for told in (plain, jailed)), strict=False):
            assert one == other
        assert len(plain.events) == len(jailed.events)
        assert plain.result.ret == jailed.result.ret
        return plain, jailed

    return both


def _normal(text: str) -> str:
    for pattern, same in _SAME:
        text = re.sub(pattern, same, text)
    return text


def _compared(event: dict[str, Any]) -> dict[str, Any]:
    if event["event"] != "report":
        return event
    fields = {name: value for name, value in event["fields"].items() if name not in _CHANCE}
    # What this plugin adds is not plain pytest's.
    fields["sections"] = [one for one in fields["sections"] if not one["tuple"][0].startswith("nsjail: leftovers")]
    if "_hypothesis_stats" in fields:
        # They are durations.
        fields["_hypothesis_stats"] = bool(fields["_hypothesis_stats"])
    return {**event, "fields": fields}


def _sorted(events: list[dict[str, Any]], sort: bool) -> list[dict[str, Any]]:
    return sorted(events, key=lambda event: json.dumps(event, sort_keys=True)) if sort else events

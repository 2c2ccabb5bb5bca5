"""pytest-benchmark: what a child measured is in the parent's table and files."""

from __future__ import annotations

import importlib
import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nsjail.plugin.adaptors.nothing import Nothing

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Ending


class Profile:
    """A profile of cProfile's as JSON, and from it; it has what pstats asks of one."""

    def __init__(self, told: Any) -> None:
        self._told = told
        self.stats: dict[Any, Any] = {}

    @staticmethod
    def told(stats: Any) -> list[Any]:
        """A pstats.Stats as JSON."""
        return [[*function, *numbers, [[*caller, *of] for caller, of in callers.items()]] for function, (*numbers, callers) in stats.stats.items()]

    def create_stats(self) -> None:
        """For pstats, before it takes :attr:`stats`."""
        self.stats = {
            (str(file), int(line), str(name)): (int(calls), int(all_calls), float(own), float(total), {
                (str(a), int(b), str(c)): tuple(float(number) for number in of) for a, b, c, *of in callers
            }) for file, line, name, calls, all_calls, own, total, callers in self._told
        }


class Benchmark(Nothing):
    """Adds to the session's benchmarks those of the children."""

    def __init__(self, config: pytest.Config) -> None:
        self._session: Any = config._benchmarksession  # type: ignore[attr-defined]
        self._before = 0

    def child_begins(self, item: pytest.Item) -> None:
        self._before = len(self._session.benchmarks)
        # The parent writes the file, outside.
        self._session.options["cprofile_dump"] = False

    def child_ends(self, item: pytest.Item) -> dict[str, Any] | None:
        safe = importlib.import_module("pytest_benchmark.utils").safe_dumps
        measured = []
        for bench in self._session.benchmarks[self._before :]:
            stats = getattr(bench, "cprofile_stats", None)
            own = {name: getattr(bench, name) for name in ("name", "fullname", "group", "param", "extra_info", "iterations", "has_error")}
            measured.append({**json.loads(safe(own)), "data": bench.stats.data, "cprofile": Profile.told(stats) if stats else None})
        return {"measured": measured, "xdist": bool(getattr(self._session, "xdist_benchmark_found", False))}

    def parent_after(self, item: pytest.Item, told: dict[str, Any] | None, ending: Ending) -> Collection[str]:
        if told is not None:
            for measured in told["measured"]:
                self._add(item, measured)
            if told["xdist"]:
                self._session.xdist_benchmark_found = True
        return ()

    def _add(self, item: pytest.Item, measured: dict[str, Any]) -> None:
        marker = item.get_closest_marker("benchmark")
        options = dict(marker.kwargs) if marker else {}
        if "timer" in options:
            options["timer"] = importlib.import_module("pytest_benchmark.utils").NameWrapper(options["timer"])
        make = importlib.import_module("pytest_benchmark.fixture").BenchmarkFixture
        session = self._session
        fixture = make(
            item, add_stats=session.benchmarks.append, logger=session.logger, warner=item.warn, disabled=session.disabled, **{**session.options, **options},
        )
        for name in ("name", "fullname", "group", "param", "extra_info", "has_error"):
            setattr(fixture, name, measured[name])
        stats = fixture._make_stats(int(measured["iterations"]))
        stats.stats.data = [float(duration) for duration in measured["data"]]
        if measured["cprofile"]:
            fixture._save_cprofile(Profile(measured["cprofile"]))

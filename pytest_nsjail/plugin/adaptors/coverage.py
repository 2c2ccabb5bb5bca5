"""coverage, run by itself or by pytest-cov: what is measured in the child is counted in the parent.

The child measures with the collector that it inherited, emptied, and tells what it ran as numbers: coverage's own dump is a program in SQL,
and the parent runs nobody's program. Nothing in the child reaches the parent's data file, which coverage would begin anew in another process.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nsjail.plugin.adaptors.carry import below, carry_back
from pytest_nsjail.plugin.adaptors.measured import Measured
from pytest_nsjail.plugin.adaptors.nothing import Nothing

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Ending

# What is used of coverage without being promised by it.
_PRIVATE = {
    "Coverage": ("_auto_save", "_collector", "_data", "_instances", "_started", "_warn_no_data", "_warn_unimported_source"),
    "Collector": ("branch", "covdata", "data", "flush_data", "start", "tracers"),
}


class Note:
    """Takes a CoverageData's place in a child: it writes no file. What is read from it is an empty one's."""

    def __init__(self, context: str | None, empty: Any) -> None:
        self.measured = Measured()
        self.context, self._empty = context, empty

    def set_context(self, context: str | None) -> str | None:
        """The context of what is added from now on."""
        before, self.context = self.context, context
        return before

    def add_lines(self, lines: Mapping[str, Collection[int]]) -> None:
        """What was run."""
        self.measured.add(self.context, lines)

    def add_arcs(self, arcs: Mapping[str, Collection[tuple[int, int]]]) -> None:
        """What was run, with branches."""
        self.measured.add(self.context, arcs)

    def add_file_tracers(self, tracers: Mapping[str, str]) -> None:
        """The plugins that measure files which are no Python."""
        self.measured.tracers.update(tracers)

    def touch_files(self, filenames: Collection[str], plugin_name: str | None = None) -> None:
        """The parent knows what could have been run."""

    def write(self) -> None:
        """There is no file."""

    def __bool__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._empty, name)


class Coverage(Nothing):
    """Counts in this process what its children ran."""

    def __init__(self) -> None:
        self._coverage: Any = None  # the one that measures, while a test's child is about to begin, or lives
        self._collector: Any = None  # whose data the children's goes to
        self._note: Note | None = None  # the child's
        self._data: Any = None  # the parent's, in a child; never closed there, for that may break a database that another process uses
        self._begun = False  # whether this is a child
        self._file = self._inside = ""  # where processes of a test's write their data outside of a jail, and in it
        self._known, self._pending = Measured(), Measured()
        os.register_at_fork(after_in_child=self._forked)

    def parent_before(self, item: pytest.Item) -> None:
        self._coverage = current()
        if self._coverage is None:
            return
        _check(self._coverage)
        self._file = self._coverage._data.base_filename()
        self._inside = _in_project(self._file, str(item.config.rootpath))
        collector = self._coverage._collector
        if collector is not self._collector:
            # It asks for everything that was measured, in whose name ever: then the children's is told.
            self._collector, flush = collector, collector.flush_data
            collector.flush_data = lambda: bool(self._flush() | flush())

    def _forked(self) -> None:
        """In every process that is forked on the way to a child: nothing it does may touch the data file."""
        coverage = self._coverage
        if coverage is None or self._begun:
            return
        if self._note is None:
            self._note = self._take(coverage)
        other = current()
        if other is not coverage:
            # [run] patch = fork has ended the parent's, and begun another with a file of its own.
            if other is not None:
                other.stop()
                other._auto_save = False
                other._data = other._collector.covdata = self._note
            coverage._collector.start()
            coverage._started = True
            coverage._instances.append(coverage)

    def _take(self, coverage: Any) -> Note:
        """Have coverage measure into a note instead of its data."""
        collector, data = coverage._collector, coverage._data
        # Another thread may have held one at that moment.
        for owner, name in ((collector, "data_lock"), *((tracer, "lock") for tracer in collector.tracers)):
            if getattr(owner, name, None) is not None:
                setattr(owner, name, threading.Lock())
        self._data = data
        note = Note(getattr(data, "_current_context", None), module().CoverageData(no_disk=True))
        del collector.flush_data
        # What the parent ran is the parent's to tell. The sets stay: tracers and running frames hold them.
        for points in collector.data.values():
            points.clear()
        for tracer in collector.tracers:
            tracer.reset_activity()
        coverage._data = collector.covdata = note
        coverage._warn_no_data = coverage._warn_unimported_source = False
        return note

    def child_begins(self, item: pytest.Item) -> None:
        # Again: [run] patch = fork has another word in each process than in the one before it.
        self._forked()
        self._begun = True
        if self._coverage is None:
            return
        if self._inside != self._file:
            self._coverage.config.data_file = os.environ["COVERAGE_FILE"] = self._inside
            if "COVERAGE_PROCESS_CONFIG" in os.environ:
                os.environ["COVERAGE_PROCESS_CONFIG"] = self._coverage.config.serialize()
        if getattr(self._data, "_suffix", None) is True:
            os.register_at_fork(after_in_child=self._own_file)

    def _own_file(self) -> None:
        """In a process that a test forks: it writes a data file of its own, as outside, where names are made for many."""
        assert self._note is not None
        data = module().CoverageData(self._inside, suffix=True)
        data.set_context(self._note.context)
        self._coverage._data = self._coverage._collector.covdata = data

    def child_ends(self, item: pytest.Item) -> dict[str, Any] | None:
        if self._coverage is None or self._note is None:
            return None
        collector = self._coverage._collector
        collector.flush_data()
        return self._note.measured.without(self._known).told(arcs=collector.branch)

    def parent_after(self, item: pytest.Item, told: dict[str, Any] | None, ending: Ending) -> Collection[str]:
        coverage, self._coverage = self._coverage, None
        if coverage is None:
            return ()
        if told is not None:
            heard = Measured.heard(told, arcs=coverage._collector.branch)
            self._known.update(heard)
            self._pending.update(heard)
        # The data files of processes that the test started.
        files = f"{self._inside}."
        return carry_back(
            ending, lambda path: path.startswith(files) and "/" not in path[len(files) :], lambda path: self._file + path[len(self._inside) :]
        )

    def _flush(self) -> bool:
        """Tell coverage what the children ran since it was told last."""
        pending, self._pending = self._pending, Measured()
        data = self._collector.covdata
        context = getattr(data, "_current_context", None)
        for of, points in pending:
            data.set_context(of)
            (data.add_arcs if self._collector.branch else data.add_lines)(points)
        if pending:
            data.set_context(context)
            data.add_file_tracers(pending.tracers)
        return bool(pending)


def _in_project(file: str, project: str) -> str:
    """A place for a file where a test may write, and whatever it writes is seen: its own, where that is one."""
    return file if below(project)(file) else os.path.join(project, os.path.basename(file))


def module() -> Any:
    """The package coverage itself."""
    return importlib.import_module("coverage")


def current() -> Any:
    """The Coverage that is measuring this process, or None."""
    return module().Coverage.current()


def _check(coverage: Any) -> None:
    """See that this version of coverage is made as those that are known.

    :raises pytest.fail.Exception: with what is missing.
    """
    for owner, names in ((coverage, _PRIVATE["Coverage"]), (coverage._collector, _PRIVATE["Collector"])):
        missing = [name for name in names if not hasattr(owner, name)]
        if missing:
            what = f"coverage {module().__version__} has no {type(owner).__name__}.{missing[0]}"
            pytest.fail(f"nsjail: {what}: isolated tests cannot be measured. Use another version of coverage, or --no-cov.", pytrace=False)

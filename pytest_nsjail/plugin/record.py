"""What ran in jails during a test, shown when the test fails."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from pytest_nsjail.plugin.brief import printable

if TYPE_CHECKING:
    from pytest_nsjail.network.network import Network
    from pytest_nsjail.runtime.jail import Jail
    from pytest_nsjail.runtime.result import Result
    from pytest_nsjail.spec.jail import JailSpec

# A test that runs hundreds of programs is told by its last ones.
_SHOWN = 8
# Of a program that still runs: a server's log is what there is of it.
_TAIL_LINES = 100


# How many bytes of a program's outputs belong to what came before the test.
Mark = tuple[int, int]
_BEGINNING = (0, 0)
_RUNS = "started"


class Record:
    """The results and the running jails of the test that runs now."""

    def __init__(self) -> None:
        self._results: list[tuple[Result, Mark]] = []
        self._jails: list[tuple[Jail, Mark]] = []
        self._forgotten = 0
        # What was done to each before this test, or was shown.
        self._faults: dict[Network, int] = {}

    def begin(self) -> None:
        """A test begins: what came before belongs to another."""
        self._results.clear()
        self._forgotten = 0
        self._jails = [(jail, _mark(jail)) for jail, _ in self._jails]
        self._faults = {network: len(network.log) for network in self._faults if not network.closed}

    def finished(self, spec: JailSpec, result: Result) -> None:
        """A program has ended; the jail that had it runs no more."""
        before = next((mark for jail, mark in self._jails if jail.spec is spec), _BEGINNING)
        self._jails = [(jail, mark) for jail, mark in self._jails if jail.spec is not spec]
        self._results.append((result, before))
        if len(self._results) > _SHOWN:
            del self._results[0]
            self._forgotten += 1

    def started(self, jail: Jail) -> None:
        """A jail runs from now on."""
        self._jails.append((jail, _BEGINNING))

    def stopped(self, jail: Jail) -> None:
        """A jail has ended, whichever way."""
        self._jails = [(other, mark) for other, mark in self._jails if other is not jail]

    def watch(self, network: Network) -> None:
        """A network is there from now on."""
        self._faults[network] = 0

    def attach(self, report: pytest.TestReport) -> None:
        """Add to a failed report what is known, once."""
        if self._forgotten:
            report.sections.append(("nsjail", f"{self._forgotten} earlier programs are not shown"))
        # An error's own words have it all, where the test failed by what a program did.
        told = report.longreprtext
        for result, before in self._results:
            text = printable(result.report(before))
            if not all(line in told for line in text.splitlines()):
                report.sections.append((printable(f"nsjail: {result.status}"), text))
        for jail, before in self._jails:
            state, said = _state(jail), _said(jail, before)
            if said or state != _RUNS:
                report.sections.append((printable(f"nsjail: {state}: {shlex.join(jail.spec.command())}"), printable(said)))
        for network, shown in self._faults.items():
            if len(network.log) > shown:
                report.sections.append((printable(f"nsjail: network {network.name}"), "\n".join(map(str, network.log[shown:]))))
        self.begin()


RECORD = pytest.StashKey[Record]()


def _mark(jail: Jail) -> Mark:
    from pytest_nsjail.errors import NsjailError

    try:
        return jail.written()
    except NsjailError:
        return _BEGINNING


def _state(jail: Jail) -> str:
    """What became of one that nobody has waited for."""
    from pytest_nsjail.errors import NsjailError

    try:
        return jail.fate() if jail.ended else _RUNS
    except NsjailError as error:
        return str(error)


def _said(jail: Jail, before: Mark) -> str:
    """The end of what a jail has said during the test; empty for one of a wider scope that has said nothing."""
    from pytest_nsjail.errors import NsjailError
    from pytest_nsjail.runtime.result import tails

    try:
        said = tails(*jail.said(before), _TAIL_LINES)
    except NsjailError:
        return "(it was closed, and what it said is gone)"
    said += _not_there(jail)
    return "\n".join(said) or ("(it has said nothing so far)" if before == _BEGINNING else "")


def _not_there(jail: Jail) -> list[str]:
    """What an observed jail's programs tried to reach where nobody is."""
    from pytest_nsjail.errors import NsjailError

    if not jail.spec.observe:
        return []
    try:
        return [f"not there: {attempt}" for attempt in jail.refused]
    except NsjailError as error:
        return [str(error)]

"""What ran in jails during a test, shown when the test fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_nsjail.runtime.jail import Jail
    from pytest_nsjail.runtime.result import Result

# A test that runs hundreds of programs is told by its last ones.
_SHOWN = 8


class Record:
    """The results and the running jails of the test that runs now."""

    def __init__(self) -> None:
        self._results: list[Result] = []
        self._jails: list[Jail] = []
        self._forgotten = 0

    def begin(self) -> None:
        """A test begins: what came before belongs to another."""
        self._results.clear()
        self._forgotten = 0

    def finished(self, result: Result) -> None:
        """A program has ended."""
        self._results.append(result)
        if len(self._results) > _SHOWN:
            del self._results[0]
            self._forgotten += 1

    def started(self, jail: Jail) -> None:
        """A jail runs from now on."""
        self._jails.append(jail)

    def stopped(self, jail: Jail) -> None:
        """A jail has ended."""
        self._jails.remove(jail)

    def attach(self, report: pytest.TestReport) -> None:
        """Add to a failed report what is known, once."""
        if self._forgotten:
            report.sections.append(("nsjail", f"{self._forgotten} earlier programs are not shown"))
        for result in self._results:
            report.sections.append((f"nsjail: {result.status}", result.report()))
        self.begin()
        for jail in self._jails:
            report.sections.append((f"nsjail: {jail!r}", jail.logs[-8000:]))

"""What ran in jails during a test, shown when the test fails."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from pytest_nsjail.plugin.brief import printable

if TYPE_CHECKING:
    from pytest_nsjail.runtime.jail import Jail
    from pytest_nsjail.runtime.result import Result
    from pytest_nsjail.spec.jail import JailSpec

# A test that runs hundreds of programs is told by its last ones.
_SHOWN = 8
_TAIL = 4000


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

    def finished(self, spec: JailSpec, result: Result) -> None:
        """A program has ended; the jail that had it runs no more."""
        self._jails = [jail for jail in self._jails if jail.spec is not spec]
        self._results.append(result)
        if len(self._results) > _SHOWN:
            del self._results[0]
            self._forgotten += 1

    def started(self, jail: Jail) -> None:
        """A jail runs from now on."""
        self._jails.append(jail)

    def stopped(self, jail: Jail) -> None:
        """A jail has ended, whichever way."""
        self._jails = [other for other in self._jails if other is not jail]

    def attach(self, report: pytest.TestReport) -> None:
        """Add to a failed report what is known, once."""
        if self._forgotten:
            report.sections.append(("nsjail", f"{self._forgotten} earlier programs are not shown"))
        for result in self._results:
            report.sections.append((printable(f"nsjail: {result.status}"), printable(result.report())))
        self.begin()
        for jail in self._jails:
            report.sections.append((printable(f"nsjail: started: {shlex.join(jail.spec.command())}"), printable(_said(jail))))


def _said(jail: Jail) -> str:
    """The end of what a jail has said so far."""
    from pytest_nsjail.errors import NsjailError

    try:
        said = [(name, text[-_TAIL:].rstrip("\n")) for name, text in (("stdout", jail.stdout), ("stderr", jail.stderr)) if text]
    except NsjailError:
        return "(it was closed, and what it said is gone)"
    return "\n".join(f"--- {name}\n{text}" for name, text in said) or "(it has said nothing so far)"

"""A process of a test's own, as its parent holds it."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_nsjail.plugin import private
from pytest_nsjail.plugin.clock import Clock

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Cell


class Forked(NamedTuple):
    """The process in its cell, and its time limit."""

    cell: Cell
    clock: Clock

    @classmethod
    def prepared(cls, ask: Callable[[], Cell], timeout: float | None) -> Forked:
        """What one takes, before the fork.

        :param ask: gives the cell, or raises what kept it from that.
        """
        clock = Clock(timeout)
        try:
            return cls(ask(), clock)
        except BaseException:
            clock.close()
            raise

    def close(self) -> None:
        """End it."""
        self.clock.close()
        self.cell.close()

    def disown(self) -> None:
        """In another process: leave it to its parent."""
        self.clock.close()
        self.cell.disown()


@contextlib.contextmanager
def forking(config: pytest.Config) -> Iterator[None]:
    """A fork of pytest: what it has still to write is not written twice, and not a word of threads.

    Python warns of them, since 3.12: they are pytest's or its plugins', and the child does without them.
    """
    for stream in (sys.stdout, sys.stderr, private.writer(config)):
        if stream is not None:
            stream.flush()
    if sys.version_info < (3, 12):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield

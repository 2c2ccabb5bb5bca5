"""How another plugin's work crosses the fork: what the split tells an adaptor, and when."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Ending


class Adaptor(Protocol):
    """Keeps one other plugin working for isolated tests.

    An adaptor lives as long as the session. Its methods come in this order for each isolated test, of which the child runs its own part::

        parent_before -> fork -> child_begins ... child_ends -> parent_after

    An error of one is an error of the test's set-up (the first two) or tear-down (the last two).
    """

    def parent_before(self, item: pytest.Item) -> None:
        """In the parent, when the fixtures of higher scopes are set up, just before the fork."""

    def child_begins(self, item: pytest.Item) -> None:
        """In the child, at once after the fork, before anything of the test is set up."""

    def child_ends(self, item: pytest.Item) -> dict[str, Any] | None:
        """In the child, when the test is torn down, outside of any hook of pytest's.

        :return: what its parent shall know: JSON, of any size. None where there is nothing to tell.
        """

    def parent_after(self, item: pytest.Item, told: dict[str, Any] | None, ending: Ending) -> Collection[str]:
        """In the parent, when the child has ended, whichever way, before fixtures of higher scopes are torn down.

        :param told: what :meth:`child_ends` returned, as the child tells it: it is not to be trusted. None where it told nothing, or died before.
        :return: the paths among those that the test wrote which are not gone with it, for they were carried back.
        """

    def death(self) -> str:
        """In the parent, after :meth:`parent_after`: why the child died, where the other plugin ended it; else empty."""

"""The adaptor that does nothing, for those who do something at one moment or another."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Ending


class Nothing:
    """An adaptor that does nothing."""

    def parent_before(self, item: pytest.Item) -> None:
        """In the parent, before the fork."""

    def child_begins(self, item: pytest.Item) -> None:
        """In the child, after the fork."""

    def child_ends(self, item: pytest.Item) -> dict[str, Any] | None:
        """In the child, after the test."""
        return None

    def parent_after(self, item: pytest.Item, told: dict[str, Any] | None, ending: Ending) -> Collection[str]:
        """In the parent, after the child."""
        return ()

    def death(self) -> str:
        """In the parent, after a child that died."""
        return ""

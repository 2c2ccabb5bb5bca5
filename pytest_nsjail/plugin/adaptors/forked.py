"""pytest-forked: it has its own way to run a test, and two are one too many."""

from __future__ import annotations

import pytest

from pytest_nsjail.plugin.adaptors.nothing import Nothing


class Forked(Nothing):
    """Says of a test that both plugins were told to run that it cannot be."""

    def parent_before(self, item: pytest.Item) -> None:
        if item.config.getoption("forked", False) or item.get_closest_marker("forked"):
            pytest.fail("nsjail: this test is isolated, and pytest-forked is to run it as well: leave out --forked, or one of the markers.", pytrace=False)

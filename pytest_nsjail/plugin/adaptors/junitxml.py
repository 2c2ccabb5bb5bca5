"""pytest's own JUnit XML: what a test's fixtures say to it directly, besides the reports."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nsjail.plugin.adaptors.nothing import Nothing

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Ending


def writer(config: pytest.Config) -> Any:
    """What writes the file of this session, or None."""
    return next((plugin for plugin in config.pluginmanager.get_plugins() if type(plugin).__name__ == "LogXML"), None)


class JunitXml(Nothing):
    """Hands on ``record_testsuite_property`` and ``record_xml_attribute``."""

    def __init__(self, xml: Any) -> None:
        self._xml = xml
        self._before = 0

    def child_begins(self, item: pytest.Item) -> None:
        self._before = len(self._xml.global_properties)

    def child_ends(self, item: pytest.Item) -> dict[str, Any] | None:
        # Nothing is reported in a child, so that every attribute is the test's own.
        return {"suite": self._xml.global_properties[self._before :], "test": self._xml.node_reporter(item.nodeid).attrs}

    def parent_after(self, item: pytest.Item, told: dict[str, Any] | None, ending: Ending) -> Collection[str]:
        if told is not None:
            for name, value in told["suite"]:
                self._xml.add_global_property(name, value)
            for name, value in told["test"].items():
                self._xml.node_reporter(item.nodeid).add_attribute(name, value)
        return ()

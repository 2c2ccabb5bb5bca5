"""The adaptors: one small module each, for one other plugin each, imported where that plugin is active."""

from __future__ import annotations

import sys

import pytest

from pytest_nsjail.plugin.adaptor import Adaptor
from pytest_nsjail.plugin.adaptors import clash
from pytest_nsjail.plugin.adaptors.clash import registered

_TIMEOUT = "nsjail-timeout"


def configure(config: pytest.Config, *, every: bool) -> None:
    """When the session is configured: refuse plugins that cannot be there, and begin to listen to pytest-timeout.

    :param every: whether every test of the session is isolated.
    :raises pytest.UsageError: with the way out.
    """
    clash.check(config, every=every)
    if registered(config, "pytest_timeout") is not None and not config.pluginmanager.hasplugin(_TIMEOUT):
        from pytest_nsjail.plugin.adaptors.timeout import Timeout

        config.pluginmanager.register(Timeout(), _TIMEOUT)


def active(config: pytest.Config) -> list[Adaptor]:
    """Those whose plugin is active in this session; asked for once, when the first isolated test comes."""
    found: list[Adaptor] = []
    if "coverage" in sys.modules:
        from pytest_nsjail.plugin.adaptors.coverage import Coverage

        found.append(Coverage())
    if registered(config, "pytest_forked") is not None:
        from pytest_nsjail.plugin.adaptors.forked import Forked

        found.append(Forked())
    if registered(config, "_hypothesis_pytestplugin") is not None:
        from pytest_nsjail.plugin.adaptors.hypothesis import Hypothesis

        found.append(Hypothesis(config))
    if config.pluginmanager.hasplugin("cacheprovider"):
        from pytest_nsjail.plugin.adaptors.cache import Cache

        found.append(Cache(config))
    if hasattr(config, "_benchmarksession"):
        from pytest_nsjail.plugin.adaptors.benchmark import Benchmark

        found.append(Benchmark(config))
    if config.getoption("xmlpath", None):
        from pytest_nsjail.plugin.adaptors.junitxml import JunitXml, writer

        xml = writer(config)
        if xml is not None:
            found.append(JunitXml(xml))
    # The last: its clock is for the test alone.
    timeout: Adaptor | None = config.pluginmanager.get_plugin(_TIMEOUT)
    if timeout is not None:
        found.append(timeout)
    return found

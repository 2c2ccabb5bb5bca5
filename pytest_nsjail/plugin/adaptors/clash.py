"""Plugins that cannot be there along with isolated tests."""

from __future__ import annotations

import sys

import pytest


def check(config: pytest.Config, *, every: bool) -> None:
    """Refuse what would silently be one plugin's or the other's.

    :param every: whether every test of the session is isolated.
    :raises pytest.UsageError: with the way out.
    """
    name = registered(config, "pytest_isolated.plugin")
    if name is not None:
        raise pytest.UsageError(
            "pytest-nsjail and pytest-isolated both have a marker 'isolated', and a test's is for one of them: "
            f"add '-p no:{name}' to leave out pytest-isolated, or '-p no:nsjail' to leave out pytest-nsjail (in addopts: for good)."
        )
    if every and registered(config, "pytest_forked") is not None and config.getoption("forked", False):
        raise pytest.UsageError(
            "--forked is pytest-forked's way to run a test, --nsjail (or nsjail_isolate = all) is pytest-nsjail's, and a test is run in one way: "
            "leave out --forked, or isolate fewer tests by @pytest.mark.isolated."
        )


def registered(config: pytest.Config, module: str) -> str | None:
    """The name that a module has as a plugin of this session, or None."""
    plugin = sys.modules.get(module)
    return config.pluginmanager.get_name(plugin) if plugin is not None else None

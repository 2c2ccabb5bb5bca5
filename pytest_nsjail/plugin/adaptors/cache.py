"""pytest's own cache: what a test keeps there by ``request.config.cache`` is kept."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nsjail.plugin.adaptors.carry import below, carry_back
from pytest_nsjail.plugin.adaptors.nothing import Nothing

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Ending


class Cache(Nothing):
    """Carries back the files of pytest's cache."""

    def __init__(self, config: pytest.Config) -> None:
        directory = os.path.expanduser(os.path.expandvars(config.getini("cache_dir")))
        self._wanted = below(str(config.rootpath / directory))

    def parent_after(self, item: pytest.Item, told: dict[str, Any] | None, ending: Ending) -> Collection[str]:
        return carry_back(ending, self._wanted)

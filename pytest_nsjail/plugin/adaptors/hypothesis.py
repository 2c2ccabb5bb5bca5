"""hypothesis: the examples that it found in a child are in its database when the next test comes."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nsjail.plugin.adaptors.carry import below, carry_back
from pytest_nsjail.plugin.adaptors.nothing import Nothing

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Ending


class Hypothesis(Nothing):
    """Carries back the files that hypothesis keeps."""

    def __init__(self, config: pytest.Config) -> None:
        self._start = config.invocation_params.dir

    def parent_after(self, item: pytest.Item, told: dict[str, Any] | None, ending: Ending) -> Collection[str]:
        return carry_back(ending, below(self._home()))

    def _home(self) -> str:
        configuration: Any = sys.modules.get("hypothesis.configuration")
        if configuration is not None:
            return str(configuration.storage_directory(intent_to_write=False).path)
        # Imported in the child alone: where it will be.
        return str(self._start / os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY", ".hypothesis"))

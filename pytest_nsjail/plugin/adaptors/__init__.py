"""The adaptors: one small module each, for one other plugin each."""

from __future__ import annotations

import pytest

from pytest_nsjail.plugin.adaptor import Adaptor


def active(config: pytest.Config) -> list[Adaptor]:
    """Those whose plugin is active in this session; asked for once, when the first isolated test comes."""
    return []

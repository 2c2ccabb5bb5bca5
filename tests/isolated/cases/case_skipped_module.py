"""A module that is skipped as a whole while it is collected."""

import pytest

pytest.importorskip("no_such_module_at_all", reason="nobody has it")


def test_never():
    raise AssertionError

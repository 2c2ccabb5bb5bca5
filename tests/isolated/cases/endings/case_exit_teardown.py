"""A tear-down that ends the session."""

import pytest


@pytest.fixture
def leaving():
    yield
    pytest.exit("in a tear-down")


def test_exit(leaving):
    raise AssertionError("and it failed")


def test_never():
    raise AssertionError

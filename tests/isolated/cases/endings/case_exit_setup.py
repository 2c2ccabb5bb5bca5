"""A fixture that ends the session."""

import pytest


@pytest.fixture
def leaving():
    pytest.exit("in a set-up")


def test_exit(leaving):
    pass


def test_never():
    raise AssertionError

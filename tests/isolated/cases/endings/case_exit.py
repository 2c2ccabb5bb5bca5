"""A test that ends the session."""

import pytest


@pytest.fixture(scope="module")
def of_the_module():
    yield
    print("the module's tear-down")


def test_before(of_the_module):
    pass


def test_exit(of_the_module):
    pytest.exit("enough", returncode=7)


def test_never(of_the_module):
    raise AssertionError

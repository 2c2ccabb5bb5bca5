"""The conftest.py of a package below."""

import pytest

import helper


@pytest.fixture(scope="package", autouse=True)
def ordered_of_this_package():
    helper.note("this package up")
    yield
    helper.note("this package down")


@pytest.fixture(scope="package")
def broken_package():
    yield
    raise ValueError("package tear-down")


def pytest_runtest_setup(item):
    helper.note(f"hook of the package {item.name}")

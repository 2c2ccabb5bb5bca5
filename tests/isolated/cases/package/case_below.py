"""Tests of a package below."""

import helper


def test_below(ordered_function):
    helper.note("test below")
    assert "package" in ordered_function


def test_failing_below(ordered_package):
    raise AssertionError("below")

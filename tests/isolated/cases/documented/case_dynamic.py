"""Fixtures of a higher scope that are asked for by name: an isolated test sets them up in its jail, and says so."""

import pytest

import helper


@pytest.fixture(scope="module")
def late_module():
    helper.note("late module up")
    yield "late"
    helper.note("late module down")


@pytest.fixture(scope="session")
def late_session():
    helper.note("late session up")
    yield "late"
    helper.note("late session down")


def test_module(request):
    assert request.getfixturevalue("late_module") == "late"


def test_module_again(request):
    assert request.getfixturevalue("late_module") == "late"


def test_session(request):
    assert request.getfixturevalue("late_session") == "late"


def test_as_an_argument(late_session):
    assert late_session == "late"

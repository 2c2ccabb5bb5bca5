"""Parametrized tests and their ids."""

import enum

import pytest


class Colour(enum.Enum):
    RED = 1


class Own:
    pass


_VALUES = [1, 1.5, True, None, "text", "", "größer ☃", b"\xff\x00", Colour.RED, Own, Own(), (1, 2), {"a": 1}, "a/b::c[d]", "new\nline", "nul\x00"]


@pytest.mark.parametrize("value", _VALUES)
def test_values(value):
    assert value is None


@pytest.mark.parametrize("value", ["a", "b"], ids=["größer", "☃ 𝔘"])
def test_ids(value):
    assert value == "a"


@pytest.mark.parametrize("value", ["a", "b"], ids=lambda value: f"made-{value}")
def test_made_ids(value):
    pass


@pytest.mark.parametrize("one", [1, 2])
@pytest.mark.parametrize("other", ["x", "y"])
def test_product(one, other):
    assert (one, other) != (2, "y")


@pytest.mark.parametrize(("one", "other"), [pytest.param(1, 2, id="named"), (3, 4)])
def test_two(one, other):
    assert one + 1 == other


@pytest.fixture
def doubled(request):
    return request.param * 2


@pytest.mark.parametrize("doubled", [1, 2], indirect=True)
def test_indirect(doubled):
    assert doubled == 2


@pytest.mark.parametrize(("doubled", "plain"), [(1, 1), (2, 3)], indirect=["doubled"])
def test_partly_indirect(doubled, plain):
    assert doubled == plain * 2


@pytest.fixture(scope="session", params=["größe", pytest.param("other", marks=pytest.mark.xfail(reason="other"))])
def of_the_session(request):
    return request.param


def test_session(of_the_session):
    assert of_the_session == "größe"


@pytest.mark.parametrize("nothing", [])
def test_nothing(nothing):
    raise AssertionError


@pytest.mark.parametrize("value", [1, 1, 1])
def test_same(value):
    pass


@pytest.mark.parametrize("text", ["x" * 300])
def test_long(text):
    assert not text


def pytest_generate_tests(metafunc):
    if "generated" in metafunc.fixturenames:
        metafunc.parametrize("generated", ["g1", "g2"])


def test_generated(generated):
    assert generated == "g1"

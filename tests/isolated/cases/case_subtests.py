"""The subtests fixture, of pytest 9."""

import warnings

import pytest

import helper


def test_passing(subtests):
    for number in range(3):
        with subtests.test("passing", number=number):
            pass


def test_failing(subtests):
    for number in range(4):
        with subtests.test(number=number):
            print(f"number {number}")
            helper.log.warning("number %s", number)
            assert number % 2 == 0


def test_failing_all(subtests):
    with subtests.test("message only"):
        helper.deep(1)
    with subtests.test("message", text="größer ☃", none=None, own=object):
        raise ValueError("two")
    raise AssertionError("the test itself")


def test_skipping(subtests):
    for number in range(3):
        with subtests.test(number=number):
            if number == 1:
                pytest.skip("number 1")


def test_xfailing(subtests):
    with subtests.test("xfail"):
        pytest.xfail("inside a subtest")


@pytest.mark.xfail(reason="of the whole test")
def test_xfailed(subtests):
    with subtests.test("one"):
        raise AssertionError


def test_nested(subtests):
    with subtests.test("outer"):
        with subtests.test("inner"):
            raise AssertionError("inner")
        raise AssertionError("outer")


def test_output(subtests):
    helper.speak("before")
    with subtests.test("speaking"):
        helper.speak("inside")
        raise AssertionError("inside")
    helper.speak("after")
    raise AssertionError("after")


def test_warning(subtests):
    with subtests.test("warning"):
        warnings.warn("in a subtest", UserWarning)


@pytest.fixture
def using(subtests):
    with subtests.test("in the set-up"):
        raise AssertionError("in the set-up")
    yield
    with subtests.test("in the tear-down"):
        raise AssertionError("in the tear-down")


def test_in_a_fixture(using):
    pass


def test_with_property(subtests, record_property):
    record_property("before", 1)
    with subtests.test("property"):
        record_property("inside", 2)
        raise AssertionError


def test_no_message(subtests):
    with subtests.test():
        raise AssertionError


def test_exit_of_a_subtest(subtests):
    with subtests.test("exit"):
        raise SystemExit(3)

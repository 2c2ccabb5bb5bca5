"""Errors in the set-up and tear-down of fixtures of every scope."""

import pytest

import helper


@pytest.fixture
def function_setup():
    helper.speak("function_setup")
    raise ValueError("function set-up")


@pytest.fixture
def function_teardown():
    yield
    helper.speak("function_teardown")
    raise ValueError("function tear-down")


@pytest.fixture
def other_teardown():
    yield
    raise LookupError("another tear-down")


@pytest.fixture(scope="class")
def class_setup():
    helper.speak("class_setup")
    raise ValueError("class set-up")


@pytest.fixture(scope="class")
def class_teardown():
    yield
    helper.speak("class_teardown")
    raise ValueError("class tear-down")


@pytest.fixture(scope="module")
def module_setup():
    helper.speak("module_setup")
    raise ValueError("module set-up")


@pytest.fixture(scope="module")
def module_teardown():
    yield
    helper.speak("module_teardown")
    raise ValueError("module tear-down")


@pytest.fixture(scope="package")
def package_setup():
    raise ValueError("package set-up")


@pytest.fixture(scope="session")
def session_setup():
    helper.speak("session_setup")
    raise ValueError("session set-up")


@pytest.fixture(scope="session")
def session_teardown():
    yield
    helper.speak("session_teardown")
    raise ValueError("session tear-down")


@pytest.fixture
def using_broken(function_setup):
    raise AssertionError


@pytest.fixture
def assertion_in_setup():
    assert [1] == [2]


@pytest.fixture
def failing_in_setup():
    pytest.fail("by call, in a set-up", pytrace=False)


@pytest.fixture
def yields_twice():
    yield 1
    yield 2


@pytest.fixture
def yields_never():
    if False:
        yield


@pytest.fixture
def finalizers(request):
    def broken(number):
        def finalizer():
            print(f"finalizer {number}")
            raise ValueError(f"finalizer {number}")

        return finalizer

    for number in range(3):
        request.addfinalizer(broken(number))


def test_function_setup(function_setup):
    pass


def test_function_setup_again(function_setup):
    pass


def test_using_broken(using_broken):
    pass


def test_function_teardown(function_teardown):
    pass


def test_failed_and_function_teardown(function_teardown):
    helper.speak("call")
    raise AssertionError("the call, too")


def test_skipped_and_function_teardown(function_teardown):
    pytest.skip("but the tear-down fails")


def test_two_teardowns(function_teardown, other_teardown):
    pass


def test_setup_and_teardown(function_teardown, function_setup):
    pass


def test_assertion_in_setup(assertion_in_setup):
    pass


def test_failing_in_setup(failing_in_setup):
    pass


def test_yields_twice(yields_twice):
    pass


def test_yields_never(yields_never):
    pass


def test_finalizers(finalizers):
    pass


def test_node_finalizers(request):
    def first():
        print("first finalizer")

    def second():
        raise ValueError("second finalizer")

    request.node.addfinalizer(first)
    request.node.addfinalizer(second)


class TestClassSetup:
    def test_first(self, class_setup):
        pass

    def test_second(self, class_setup):
        pass

    def test_without(self):
        pass


class TestClassTeardown:
    def test_first(self, class_teardown):
        pass

    def test_last(self, class_teardown):
        helper.speak("last of the class")


class TestClassTeardownAndOwn:
    def test_first(self, class_teardown):
        pass

    def test_last(self, class_teardown, function_teardown):
        helper.speak("last of the class")


class TestClassTeardownAndFailure:
    def test_last(self, class_teardown):
        helper.speak("last of the class")
        raise AssertionError("it fails as well")


class TestClassTeardownAndSkip:
    def test_last(self, class_teardown):
        pytest.skip("the last is skipped")


class TestClassTeardownAndMark:
    def test_first(self, class_teardown):
        pass

    @pytest.mark.skip(reason="by mark, the last")
    def test_last(self):
        pass


class TestClassTeardownAndXfail:
    @pytest.mark.xfail(reason="the last fails")
    def test_last(self, class_teardown):
        raise AssertionError


class TestMixed:
    def test_class_setup_after_function_teardown(self, class_teardown, function_setup):
        pass

    def test_then(self):
        pass


def test_module_setup(module_setup):
    pass


def test_module_setup_again(module_setup):
    pass


def test_package_setup(package_setup):
    pass


def test_session_setup(session_setup):
    pass


def test_session_setup_again(session_setup):
    pass


def test_session_teardown(session_teardown):
    pass


def test_last_of_the_module(module_teardown, function_teardown):
    helper.speak("last of the module")

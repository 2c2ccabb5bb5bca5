"""Warnings in each phase."""

import threading
import warnings

import pytest

import helper


@pytest.fixture
def warning():
    warnings.warn("in the set-up", UserWarning)
    yield
    warnings.warn("in the tear-down", UserWarning)


@pytest.fixture(scope="module")
def warning_module():
    warnings.warn("in the module's set-up", UserWarning)
    yield
    warnings.warn("in the module's tear-down", UserWarning)


def test_each_phase(warning):
    warnings.warn("in the call", UserWarning)


def test_of_the_module(warning_module, warning):
    warnings.warn("in the call", RuntimeWarning)


def test_from_a_helper():
    helper.deprecated()
    helper.deprecated_for_the_caller()


def test_from_a_helper_again():
    helper.deprecated()
    helper.deprecated_for_the_caller()


def test_many():
    for number in range(3):
        warnings.warn(f"number {number}", UserWarning)
        warnings.warn("always the same", FutureWarning)


@pytest.mark.filterwarnings("ignore:ignored")
def test_ignored():
    warnings.warn("ignored by its mark", UserWarning)
    warnings.warn("shown", UserWarning)


@pytest.mark.filterwarnings("error")
def test_error():
    warnings.warn("an error by its mark", UserWarning)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.filterwarnings("ignore:but not")
def test_error_but():
    warnings.warn("but not this one", UserWarning)
    warnings.warn("a DeprecationWarning", DeprecationWarning)
    warnings.warn("this one", helper.OwnWarning)


@pytest.mark.filterwarnings("error")
def test_error_in_setup(warning):
    pass


@pytest.mark.filterwarnings("error:in the tear-down")
def test_error_in_teardown(warning):
    pass


@pytest.mark.filterwarnings("once")
def test_once():
    for _ in range(3):
        warnings.warn("once", UserWarning)


def test_own_category():
    warnings.warn("of an own category", helper.OwnWarning)


def test_category_of_the_test():
    class LocalWarning(UserWarning):
        pass

    warnings.warn("of a local category", LocalWarning)


def test_instance():
    warnings.warn(helper.OwnWarning("an instance", 2))


def test_no_string():
    warnings.warn(UserWarning(1, ("two",)))


def test_of_lines():
    warnings.warn("first line\nsecond line\n\tindented ☃ größer", UserWarning)


def test_explicit():
    warnings.warn_explicit("explicit", UserWarning, "/no/such/file.py", 17)


def test_bytes_and_surrogates():
    warnings.warn("a lone \udcff surrogate", UserWarning)


def test_failed_with_warning():
    warnings.warn("and a failure", UserWarning)
    raise AssertionError


def test_return():
    return 1


def test_in_a_thread():
    thread = threading.Thread(target=warnings.warn, args=("from a thread", UserWarning))
    thread.start()
    thread.join()


def test_unhandled_in_a_thread():
    def failing():
        raise ValueError("in a thread")

    thread = threading.Thread(target=failing, name="failing-thread")
    thread.start()
    thread.join()


def test_unraisable():
    class Own:
        def __del__(self):
            raise ValueError("in a finalizer")

    own = Own()
    del own


def test_resource():
    open("/dev/null")


def test_warns():
    with pytest.warns(UserWarning, match="caught"):
        warnings.warn("caught", UserWarning)


def test_recwarn(recwarn):
    warnings.warn("seen by recwarn", UserWarning)
    assert len(recwarn) == 1


def test_deprecated_call():
    with pytest.deprecated_call():
        helper.deprecated()


def test_catch_warnings():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warnings.warn("caught", UserWarning)
    assert len(seen) == 1
    warnings.warn("after that", UserWarning)


@pytest.mark.filterwarnings("ignore")
class TestMarked:
    def test_nothing(self):
        warnings.warn("not shown", UserWarning)

    @pytest.mark.filterwarnings("default")
    def test_something(self):
        warnings.warn("shown all the same", UserWarning)

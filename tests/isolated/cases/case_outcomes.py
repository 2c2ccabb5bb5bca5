"""Every outcome a test can have."""

import pytest

import helper


def test_passed():
    pass


def test_failed():
    assert 1 + 1 == 3


def test_failed_with_message():
    assert not "text", "a message"


def test_failed_by_call():
    pytest.fail("by call")


def test_failed_without_trace():
    pytest.fail("without trace", pytrace=False)


@pytest.mark.skip
def test_skipped_by_bare_mark():
    raise AssertionError


@pytest.mark.skip(reason="by mark")
def test_skipped_by_mark():
    raise AssertionError


@pytest.mark.skipif(True, reason="by condition")
def test_skipped_by_condition():
    raise AssertionError


@pytest.mark.skipif("sys.version_info > (3,)", reason="by string condition")
def test_skipped_by_string_condition():
    raise AssertionError


@pytest.mark.skipif(False, reason="not at all")
def test_not_skipped():
    pass


@pytest.mark.skipif("undefined_name", reason="broken")
def test_broken_condition():
    pass


def test_skipped_inside():
    pytest.skip("inside")


def test_skipped_after_output():
    print("before the skip")
    pytest.skip("after output")


def _skipping():
    pytest.skip("in a helper")


def test_skipped_in_a_helper():
    _skipping()


@pytest.fixture
def skipping():
    pytest.skip("in a fixture")


def test_skipped_in_a_fixture(skipping):
    raise AssertionError


@pytest.fixture
def skipping_late():
    yield
    pytest.skip("in a tear-down")


def test_skipped_in_teardown(skipping_late):
    pass


@pytest.fixture(scope="module")
def skipping_module():
    pytest.skip("in a module fixture")


def test_skipped_in_a_module_fixture(skipping_module):
    raise AssertionError


def test_skipped_in_a_module_fixture_again(skipping_module):
    raise AssertionError


def test_importorskip():
    pytest.importorskip("no_such_module_at_all")


def test_importorskip_by_version():
    pytest.importorskip("pytest", minversion="999")


@pytest.mark.xfail
def test_xfailed():
    raise AssertionError("expected")


@pytest.mark.xfail(reason="with a reason")
def test_xfailed_with_reason():
    assert [1, 2] == [1, 3]


@pytest.mark.xfail(reason="passes all the same")
def test_xpassed():
    pass


@pytest.mark.xfail(strict=True, reason="passes and must not")
def test_xpassed_strict():
    print("output of a strict xpass")


@pytest.mark.xfail(strict=True)
def test_xpassed_strict_without_reason():
    pass


@pytest.mark.xfail(strict=True, reason="fails as it must")
def test_xfailed_strict():
    raise ValueError


@pytest.mark.xfail(strict=False, reason="passes and may")
def test_xpassed_not_strict():
    pass


@pytest.mark.xfail(raises=ValueError, reason="a ValueError")
def test_xfailed_by_type():
    raise ValueError("the right one")


@pytest.mark.xfail(raises=(ValueError, TypeError))
def test_xfailed_by_one_of_types():
    raise TypeError("one of two")


@pytest.mark.xfail(raises=ValueError, reason="a ValueError")
def test_failed_by_other_type():
    raise TypeError("the wrong one")


@pytest.mark.xfail(raises=LookupError)
def test_xfailed_by_base_type():
    {}["nothing"]


@pytest.mark.xfail(raises=helper.OwnError)
def test_xfailed_by_own_type():
    helper.deep(2)


@pytest.mark.xfail(raises=ValueError)
def test_xpassed_by_type():
    pass


@pytest.mark.xfail(raises=ValueError, strict=True)
def test_xpassed_by_type_strict():
    pass


@pytest.mark.xfail(run=False)
def test_not_run():
    raise SystemExit


@pytest.mark.xfail(run=False, reason="would hang")
def test_not_run_with_reason():
    raise SystemExit


@pytest.mark.xfail(False, reason="not now")
def test_xfail_that_does_not_apply():
    raise AssertionError("a failure")


@pytest.mark.xfail("sys.platform == 'linux'", reason="on linux")
def test_xfailed_by_string_condition():
    raise AssertionError


def test_xfailed_inside():
    pytest.xfail("inside")


def test_xfailed_inside_without_reason():
    pytest.xfail()


@pytest.mark.xfail(reason="by mark")
def test_xfailed_inside_and_by_mark():
    pytest.xfail("inside")


@pytest.mark.xfail(reason="expected to fail")
def test_skipped_though_xfail():
    pytest.skip("before it could fail")


@pytest.fixture
def xfailing():
    pytest.xfail("in a fixture")


def test_xfailed_in_a_fixture(xfailing):
    pass


@pytest.fixture
def broken():
    raise ValueError("broken fixture")


@pytest.mark.xfail(reason="its fixture is broken")
def test_xfailed_by_its_fixture(broken):
    pass


@pytest.mark.xfail(raises=TypeError, reason="its fixture is broken in another way")
def test_failed_by_its_fixture(broken):
    pass


@pytest.fixture
def broken_late():
    yield
    raise ValueError("broken tear-down")


@pytest.mark.xfail(reason="its tear-down is broken")
def test_xpassed_with_broken_teardown(broken_late):
    pass


@pytest.mark.xfail(reason="its tear-down is broken, too")
def test_xfailed_with_broken_teardown(broken_late):
    raise AssertionError


def test_marker_applied_by_request(request):
    request.applymarker(pytest.mark.xfail(reason="applied by the test"))
    raise AssertionError


def test_marker_applied_strict(request):
    request.applymarker(pytest.mark.xfail(strict=True, reason="applied by the test, strictly"))


def test_marker_applied_with_raises(request):
    request.applymarker(pytest.mark.xfail(raises=TypeError))
    raise ValueError


def test_marker_applied_by_node(request):
    request.node.add_marker(pytest.mark.xfail(reason="added to the node"))
    request.node.add_marker("plain")
    raise AssertionError


def test_marker_applied_by_fixture(added_marker):
    raise AssertionError


def test_marker_added_in_front(request):
    request.node.add_marker(pytest.mark.note("first"), append=False)
    assert request.node.get_closest_marker("note").args == ("first",)


def test_marker_added_to_the_module(request):
    request.node.add_marker(pytest.mark.xfail(reason="not here"))
    request.node.own_markers.clear()
    raise AssertionError("the marker was taken away again")


@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.xfail(reason="two")), pytest.param(3, marks=pytest.mark.skip("three"))])
def test_marked_parameters(number):
    assert number == 1


@pytest.mark.xfail(reason="of the class")
class TestMarkedClass:
    def test_xfailed(self):
        raise AssertionError

    def test_xpassed(self):
        pass

    @pytest.mark.xfail(raises=ValueError, reason="closer")
    def test_closest(self):
        raise TypeError


@pytest.mark.skip("the whole class")
class TestSkippedClass:
    def test_it(self):
        raise AssertionError


def test_noted(request):
    request.node.keywords["noted"] = True


def test_exits():
    raise SystemExit(3)


def test_no_such_fixture(no_such_fixture):
    pass


class TestHasInit:
    def __init__(self):
        pass

    def test_never_collected(self):
        raise AssertionError


def test_an_option(request):
    verbose = request.config.option.verbose
    assert verbose >= 0

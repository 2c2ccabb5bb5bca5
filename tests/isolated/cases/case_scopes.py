"""Fixtures of every scope, and the order in which they come and go."""

import pytest

import helper


@pytest.fixture(scope="session", params=["s1", "s2"])
def ordered_session_parameter(request):
    helper.note(f"session {request.param} up")
    yield request.param
    helper.note(f"session {request.param} down")


@pytest.fixture(scope="module", params=["m1", "m2"])
def ordered_module_parameter(request):
    helper.note(f"module {request.param} up")
    yield request.param
    helper.note(f"module {request.param} down")


@pytest.fixture(scope="class", params=[1, 2])
def ordered_class_parameter(request):
    helper.note(f"class {request.param} up")
    yield request.param
    helper.note(f"class {request.param} down")


@pytest.fixture(params=["f1", "f2"])
def ordered_function_parameter(request):
    helper.note(f"function {request.param} up")
    yield request.param
    helper.note(f"function {request.param} down")


@pytest.fixture(autouse=True)
def ordered_autouse(request):
    helper.note(f"autouse up for {request.node.name}")
    yield
    helper.note(f"autouse down for {request.node.name}")


@pytest.fixture(autouse=True, scope="module")
def ordered_autouse_module(request):
    helper.note(f"autouse up for {request.node.name}")
    yield
    helper.note(f"autouse down for {request.node.name}")


@pytest.fixture(scope="module")
def shared():
    return object()


@pytest.fixture(scope="module")
def finalized(request):
    helper.note("finalized up")
    request.addfinalizer(lambda: helper.note("finalized down 1"))
    request.addfinalizer(lambda: helper.note("finalized down 2"))
    request.node.addfinalizer(lambda: helper.note("finalized: of the node"))


def _scope(fixture_name, config):
    return "module"


@pytest.fixture(scope=_scope)
def ordered_dynamic_scope():
    helper.note("dynamic scope up")
    yield
    helper.note("dynamic scope down")


class TestOrder:
    def test_one(self, ordered_function, ordered_other):
        helper.note("test one")
        assert ordered_function == ["session", "package", "module", "class", "function"]

    def test_two(self, ordered_other, ordered_function):
        helper.note("test two")

    def test_three(self, ordered_class):
        helper.note("test three")


class TestAgain:
    def test_one(self, ordered_function):
        helper.note("test one again")

    @pytest.mark.usefixtures("ordered_other", "ordered_class")
    def test_used(self):
        helper.note("test used")


@pytest.mark.usefixtures("ordered_other")
class TestUsed:
    def test_one(self):
        pass

    @pytest.mark.usefixtures("ordered_function")
    def test_two(self):
        pass


def test_parameters(ordered_session_parameter, ordered_module_parameter, ordered_function_parameter):
    helper.note(f"test {ordered_session_parameter} {ordered_module_parameter} {ordered_function_parameter}")
    assert (ordered_session_parameter, ordered_module_parameter, ordered_function_parameter) != ("s1", "m2", "f1")


def test_session_parameter(ordered_session_parameter):
    helper.note(f"test {ordered_session_parameter}")


class TestClassParameter:
    def test_one(self, ordered_class_parameter):
        helper.note(f"class test one {ordered_class_parameter}")

    def test_two(self, ordered_class_parameter):
        helper.note(f"class test two {ordered_class_parameter}")


@pytest.mark.parametrize("ordered_other", ["direct"])
def test_overridden_by_parameter(ordered_other):
    assert ordered_other == "direct"


@pytest.mark.parametrize("ordered_module_parameter", ["i1", "i2"], indirect=True)
def test_indirect(ordered_module_parameter):
    helper.note(f"test indirect {ordered_module_parameter}")
    assert ordered_module_parameter in ("i1", "i2")


@pytest.mark.parametrize("ordered_module_parameter", ["n1", "n2"], indirect=True, scope="function")
def test_indirect_with_scope(ordered_module_parameter):
    helper.note(f"test indirect with scope {ordered_module_parameter}")


@pytest.mark.parametrize("value", [1, 2], scope="module")
def test_scope_of_a_parameter(value):
    helper.note(f"test value {value}")


@pytest.mark.parametrize("value", [1, 2], scope="class")
class TestScopeOfAParameter:
    def test_one(self, value):
        helper.note(f"one {value}")

    def test_two(self, value):
        helper.note(f"two {value}")


def test_shared_one(shared):
    shared_ids.append(id(shared))


shared_ids = []


def test_finalized(finalized):
    pass


def test_dynamic_scope(ordered_dynamic_scope):
    pass


def test_dynamic_function(request):
    helper.note("before the dynamic one")
    assert request.getfixturevalue("ordered_other") == "other"
    helper.note("after the dynamic one")


def test_dynamic_function_of_a_broken(request):
    request.getfixturevalue("breaking")


@pytest.fixture
def breaking():
    helper.note("breaking")
    raise ValueError("breaking")


def test_dynamic_of_what_is_there(request, ordered_module):
    assert request.getfixturevalue("ordered_module") is ordered_module


@pytest.fixture
def asking(request):
    return request.getfixturevalue("ordered_other")


def test_dynamic_in_a_fixture(asking):
    assert asking == "other"


def test_dynamic_without_such(request):
    request.getfixturevalue("no_such_fixture")


class TestOverride:
    @pytest.fixture
    def ordered_other(self, ordered_other):
        helper.note("override up")
        yield f"{ordered_other} overridden"
        helper.note("override down")

    def test_it(self, ordered_other):
        assert ordered_other == "other overridden"


class TestInstance:
    @pytest.fixture(autouse=True)
    def _prepared(self):
        self.value = 1

    @pytest.fixture(scope="class")
    def of_the_class(self, request):
        request.cls.shared = "set by a fixture"

    def test_instance(self, of_the_class):
        assert self.value == 1
        assert self.shared == "set by a fixture"

    def test_another(self, of_the_class):
        assert not hasattr(self, "other")
        assert self.value == 2


def test_scope_mismatch(mismatched):
    pass


@pytest.fixture(scope="module")
def mismatched(ordered_other):
    pass

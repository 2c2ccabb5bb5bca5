"""Set-up in the manner of xunit."""

import helper


def setup_module(module):
    helper.note(f"setup_module {module.__name__.rpartition('.')[2]}")
    module.value = "of the module"


def teardown_module(module):
    helper.note("teardown_module")


def setup_function(function):
    helper.note(f"setup_function {function.__name__}")


def teardown_function(function):
    helper.note(f"teardown_function {function.__name__}")


def test_function():
    assert value == "of the module"  # noqa: F821


def test_failing():
    raise AssertionError("in between")


class TestClass:
    @classmethod
    def setup_class(cls):
        helper.note("setup_class")
        cls.shared = 1

    @classmethod
    def teardown_class(cls):
        helper.note("teardown_class")

    def setup_method(self, method):
        helper.note(f"setup_method {method.__name__}")
        self.own = 2

    def teardown_method(self, method):
        helper.note(f"teardown_method {method.__name__}")

    def test_one(self):
        assert (self.shared, self.own) == (1, 2)

    def test_two(self):
        assert (self.shared, self.own) == (2, 1)


class Base:
    expected = None

    def test_inherited(self):
        assert self.expected == 1

    def test_overridden(self):
        raise AssertionError("of the base")


class TestOne(Base):
    expected = 1

    def test_overridden(self):
        pass


class TestTwo(TestOne):
    expected = 2

    class TestInner:
        def test_inner(self):
            assert self.__class__.__qualname__ == "other"


class TestBrokenSetupMethod:
    def setup_method(self):
        raise ValueError("setup_method")

    def test_it(self):
        pass


class TestBrokenTeardownMethod:
    def teardown_method(self):
        raise ValueError("teardown_method")

    def test_it(self):
        pass


class TestBrokenSetupClass:
    @classmethod
    def setup_class(cls):
        raise ValueError("setup_class")

    def test_one(self):
        pass

    def test_two(self):
        pass


class TestBrokenTeardownClass:
    @classmethod
    def teardown_class(cls):
        raise ValueError("teardown_class")

    def test_one(self):
        pass

    def test_two(self):
        pass

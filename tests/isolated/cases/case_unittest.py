"""unittest's test cases."""

import unittest
import warnings

import pytest

import helper


class TestPlain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        helper.note("setUpClass")
        cls.shared = ["shared"]

    @classmethod
    def tearDownClass(cls):
        helper.note("tearDownClass")

    def setUp(self):
        helper.note("setUp")
        self.own = "own"

    def tearDown(self):
        helper.note("tearDown")

    def test_passed(self):
        assert self.shared == ["shared"]
        assert self.own == "own"

    def test_failed(self):
        self.assertEqual([1, 2], [1, 3])  # noqa: PT009

    def test_plain_assert(self):
        assert self.shared == "other"

    def test_error(self):
        helper.deep(1)

    def test_skip(self):
        self.skipTest("inside")

    @unittest.skip("by decorator")
    def test_skip_decorator(self):
        raise AssertionError

    @unittest.skipIf(True, "by condition")
    def test_skip_if(self):
        raise AssertionError

    def test_raise_skip(self):
        raise unittest.SkipTest("raised")

    @pytest.mark.skip("by pytest's mark")
    def test_skip_mark(self):
        raise AssertionError

    def test_skip_by_pytest(self):
        pytest.skip("by pytest")

    @unittest.expectedFailure
    def test_expected_failure(self):
        raise AssertionError("expected")

    @unittest.expectedFailure
    def test_unexpected_success(self):
        pass

    @pytest.mark.xfail(reason="by pytest's mark")
    def test_xfail_mark(self):
        raise AssertionError

    def test_xfail_by_pytest(self):
        pytest.xfail("by pytest")

    def test_output(self):
        helper.speak("unittest")
        self.fail("after output")

    def test_warning(self):
        warnings.warn("of a TestCase", UserWarning)

    def test_cleanups(self):
        self.addCleanup(helper.note, "cleanup 1")
        self.addCleanup(helper.note, "cleanup 2")

    def test_broken_cleanup(self):
        self.addCleanup(helper.deep, 0)

    def test_failed_and_broken_cleanup(self):
        self.addCleanup(helper.deep, 0)
        raise AssertionError("the test, too")

    def test_context(self):
        try:
            self.fail("first")
        except AssertionError as error:
            raise ValueError("second") from error

    def test_long_message(self):
        self.assertMultiLineEqual("a\nb\nc\n" * 10, "a\nb\nd\n" * 10)


class TestSubTests(unittest.TestCase):
    def test_failing(self):
        for number in range(4):
            with self.subTest("numbers", number=number):
                print(f"number {number}")
                assert number % 2 == 0

    def test_passing(self):
        for number in range(3):
            with self.subTest(number=number):
                pass

    def test_failing_all(self):
        with self.subTest("one"):
            self.fail("one")
        with self.subTest(two=2):
            raise ValueError("two")
        self.fail("the test itself")

    def test_skipping(self):
        for number in range(3):
            with self.subTest(number=number):
                if number == 1:
                    self.skipTest("number 1")

    def test_nested(self):
        with self.subTest("outer"):
            with self.subTest("inner"):
                self.fail("inner")
            self.fail("outer")

    @unittest.expectedFailure
    def test_expected(self):
        with self.subTest("expected"):
            raise AssertionError

    def test_no_message(self):
        with self.subTest():
            raise AssertionError


class TestBrokenSetUp(unittest.TestCase):
    def setUp(self):
        helper.speak("setUp")
        raise ValueError("setUp")

    def tearDown(self):
        helper.note("never")

    def test_it(self):
        pass


class TestBrokenTearDown(unittest.TestCase):
    def tearDown(self):
        helper.speak("tearDown")
        raise ValueError("tearDown")

    def test_passed(self):
        pass

    def test_failed(self):
        raise AssertionError("and tearDown")


class TestSkippingSetUp(unittest.TestCase):
    def setUp(self):
        self.skipTest("in setUp")

    def test_it(self):
        raise AssertionError


class TestBrokenSetUpClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        helper.speak("setUpClass")
        raise ValueError("setUpClass")

    def test_one(self):
        pass

    def test_two(self):
        pass


class TestSkippingSetUpClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("in setUpClass")

    def test_it(self):
        raise AssertionError


class TestBrokenTearDownClass(unittest.TestCase):
    @classmethod
    def tearDownClass(cls):
        helper.speak("tearDownClass")
        raise ValueError("tearDownClass")

    def test_one(self):
        pass

    def test_two(self):
        helper.speak("the last")


class TestClassCleanups(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(helper.note, "class cleanup")

    def test_it(self):
        helper.note("with a class cleanup")


class TestWithFixtures(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _given(self, tmp_path, request):
        self.directory = tmp_path
        yield
        helper.note(f"fixture of {request.node.name} down")

    def test_fixture(self):
        (self.directory / "file").write_text("text")
        assert (self.directory / "file").read_text() == "text"

    def test_failing(self):
        assert self.directory.name == "other"


@pytest.mark.usefixtures("ordered_class")
class TestUsingFixtures(unittest.TestCase):
    def test_it(self):
        helper.note("using a class fixture")


@unittest.skip("the class")
class TestSkipped(unittest.TestCase):
    def test_it(self):
        raise AssertionError


class Base(unittest.TestCase):
    expected = 1

    def test_inherited(self):
        assert self.value == self.expected


class TestInherited(Base):
    value = 1


class TestInheritedAndFailing(Base):
    value = 2


del Base


class TestAsync(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        helper.note("asyncSetUp")

    async def asyncTearDown(self):
        helper.note("asyncTearDown")

    async def test_passed(self):
        pass

    async def test_failed(self):
        assert [1] == [2]

    async def test_subtest(self):
        with self.subTest("async"):
            raise AssertionError


class TestAssertions(unittest.TestCase):
    def test_raises(self):
        with self.assertRaises(ValueError):  # noqa: PT027
            raise ValueError

    def test_raises_nothing(self):
        with self.assertRaises(ValueError):  # noqa: PT027
            pass

    def test_logs(self):
        with self.assertLogs("helper") as seen:
            helper.log.warning("logged")
        assert len(seen.records) == 1

    def test_run_test(self):
        self.doCleanups()


def setUpModule():
    helper.note("setUpModule")


def tearDownModule():
    helper.note("tearDownModule")

"""What is isolated, and what is no way to ask for it."""

from __future__ import annotations

import pytest

WHERE = """
    import os, pytest
    @pytest.fixture(scope="session")
    def outside():
        return os.getpid()
    def test_plain(outside): assert os.getpid() == outside
    @pytest.mark.isolated
    def test_marked(outside): assert os.getpid() != outside
    @pytest.mark.isolated(False)
    def test_exempt(outside): assert os.getpid() == outside
    @pytest.mark.isolated
    class TestClass:
        def test_of_a_class(self, outside): assert os.getpid() != outside
        @pytest.mark.isolated(False)
        def test_exempt_in_a_class(self, outside): assert os.getpid() == outside
"""


def test_the_closest_marker_decides(inner: pytest.Pytester) -> None:
    inner.makepyfile(WHERE)
    inner.runpytest_subprocess().assert_outcomes(passed=5)


@pytest.mark.parametrize("way", [("--nsjail",), ("-o", "nsjail_isolate=all")], ids=["option", "ini"])
def test_everything_but_what_is_exempt(inner: pytest.Pytester, way: tuple[str, ...]) -> None:
    inner.makepyfile(WHERE)
    result = inner.runpytest_subprocess(*way)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_plain - *"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("memory='1G'", "*test_it.py::test_it: pytest.mark.isolated: isolated() has no argument 'memory'. It has: image, network, *"),
        ("network='some'", "*test_it.py::test_it: pytest.mark.isolated: network='some' is no network. Write network='none' or network='host'."),
        ("'node'", "*test_it.py::test_it: pytest.mark.isolated: isolated('node') takes one positional argument, True or False. *isolated(image='node')."),
        ("False, timeout=1", "*test_it.py::test_it: pytest.mark.isolated: isolated(False, timeout=...) says both. Leave out False, or the rest."),
        ("timeout='soon'", "*test_it.py::test_it: pytest.mark.isolated: *soon*"),
        ("writable='/srv'", "*test_it.py::test_it: pytest.mark.isolated: *writable*"),
        ("image=3", "*test_it.py::test_it: pytest.mark.isolated: image is 3. *"),
        ("env={'a': 1}", "*test_it.py::test_it: pytest.mark.isolated: *env*"),
    ],
)
def test_what_cannot_be_meant_is_said_before_any_test(inner: pytest.Pytester, arguments: str, said: str) -> None:
    inner.makepyfile(test_it=f"import pytest\ndef test_other(): pass\n@pytest.mark.isolated({arguments})\ndef test_it(): pass\n")
    result = inner.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])
    result.assert_outcomes()


def test_all_that_cannot_be_meant_is_said_at_once(inner: pytest.Pytester) -> None:
    inner.makepyfile("import pytest\n@pytest.mark.isolated(memory=1)\ndef test_one(): pass\n@pytest.mark.isolated(netwrok='host')\ndef test_two(): pass\n")
    inner.runpytest_subprocess().stderr.fnmatch_lines(["ERROR: *::test_one: *'memory'*", "*::test_two: *'netwrok'*"])


def test_a_directory_that_is_not_there(inner: pytest.Pytester) -> None:
    inner.makepyfile("import pytest\n@pytest.mark.isolated(writable=['/srv/none'])\ndef test_it(): pass\n")
    result = inner.runpytest_subprocess("-o", "nsjail_unavailable=skip")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["nsjail: pytest.mark.isolated: writable names /srv/none, which is not there. Make it first, or leave it out."])


@pytest.mark.parametrize(("name", "value", "words"), [("isolate", "some", "'marked' or 'all'"), ("leftovers", "kill", "'report' or 'fail'")])
def test_an_ini_value_that_cannot_be_meant(inner: pytest.Pytester, name: str, value: str, words: str) -> None:
    result = inner.runpytest_subprocess("-o", f"nsjail_{name}={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: nsjail_{name} = {value}: write {words}"])


def test_the_marker_is_registered(inner: pytest.Pytester) -> None:
    inner.makepyfile("import pytest\n@pytest.mark.isolated\ndef test_it(): pass\n")
    inner.runpytest_subprocess("--strict-markers").assert_outcomes(passed=1)
    inner.runpytest_subprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.isolated(isolate=True, [*], image=None, *"])


@pytest.mark.parametrize(
    ("fixture", "said"),
    [
        ("", "there is no such fixture"),
        ("@pytest.fixture\ndef node(): pass", "it is function-scoped, and would be set up inside"),
        ("@pytest.fixture(scope='module')\ndef node(): pass", "the fixture gave None, which is no image"),
    ],
    ids=["none", "function", "no-image"],
)
def test_an_image_is_a_fixture_that_outlives_the_test(inner: pytest.Pytester, fixture: str, said: str) -> None:
    inner.makepyfile(f"import pytest\n{fixture}\n@pytest.mark.isolated(image='node')\ndef test_it(): pass\n")
    result = inner.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"pytest.mark.isolated(image='node'): {said}. *"])


@pytest.mark.parametrize(("chosen", "outcome"), [("fail", {"errors": 12}), ("skip", {"skipped": 12})])
def test_where_no_jail_can_be_made(inner: pytest.Pytester, chosen: str, outcome: dict[str, int]) -> None:
    inner.makeconftest("""
        from pytest_nsjail.errors import SetupError
        import pytest_nsjail.runtime.flow as flow
        def begin(self):
            open("tried", "a").write("x")
            raise SetupError("unshare", 1, "Allow it.")
        flow.Runtime.begin = begin
    """)
    inner.makepyfile("import pytest\n@pytest.mark.parametrize('n', range(12))\ndef test_it(n): pass\n")
    result = inner.runpytest_subprocess("--nsjail", "-rs", "-o", f"nsjail_unavailable={chosen}")
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["*nsjail: cannot make the jail: unshare (Operation not permitted, errno 1). Allow it.*"])
    assert inner.path.joinpath("tried").read_text() == "x"


def test_a_dynamic_fixture_of_a_higher_scope_is_the_tests_own_and_said(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import os, pytest
        @pytest.fixture(scope="module")
        def shared():
            yield os.getpid()
            print("down in", os.getpid())
        def test_one(request): assert request.getfixturevalue("shared") == os.getpid()
        def test_two(request): assert request.getfixturevalue("shared") == os.getpid()
    """)
    result = inner.runpytest_subprocess("--nsjail", "-s")
    result.assert_outcomes(passed=2, warnings=2)
    result.stdout.fnmatch_lines(["*NsjailWarning: the module-scoped fixture 'shared' is requested from within an isolated test*def test_one(shared, ...)*"])
    assert str(result.stdout).count("down in") == 2


def test_missing_private_api_is_named(inner: pytest.Pytester) -> None:
    inner.makepyfile(broken="import _pytest.runner\ndel _pytest.runner.show_test_item\n")
    inner.makepyfile(test_it="def test_it(): pass\n")
    inner.runpytest_subprocess("-p", "broken").assert_outcomes(passed=1)
    result = inner.runpytest_subprocess("-p", "broken", "--nsjail")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: pytest {pytest.__version__} has no _pytest.runner.show_test_item, which isolated tests need. *"])


def test_a_worker_says_it_of_the_test(inner: pytest.Pytester) -> None:
    inner.makepyfile("import pytest\n@pytest.mark.isolated(memory=1)\ndef test_it(): pass\ndef test_other(): pass\n")
    result = inner.runpytest_subprocess("-p", "xdist", "-n", "1")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*isolated() has no argument 'memory'. *"])

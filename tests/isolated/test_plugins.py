"""Other people's plugins do for an isolated test what they do for another: they are real, and the session is told the same."""

from __future__ import annotations

import json
import re
import shutil

import pytest

MIXED = """
import os, random, unittest
import pytest
from hypothesis import HealthCheck, given, settings, strategies

# A busy machine is no finding.
settings.register_profile("patient", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("patient")

@pytest.mark.anyio
async def test_anyio(anyio_backend_name): assert anyio_backend_name == "asyncio"
@pytest.mark.anyio
async def test_anyio_fails(anyio_backend): assert anyio_backend == "trio"
def test_mock(mocker):
    mocked = mocker.patch("os.getcwd", return_value="/x")
    assert os.getcwd() == "/x"
    mocked.assert_called_once_with()
def test_mock_is_undone(): assert os.getcwd() != "/x"
def test_mock_fails(mocker):
    mocker.patch("os.getcwd", return_value="/x")
    os.getcwd()
    os.getcwd.assert_called_once_with(1)
@pytest.fixture(scope="module")
def patched(module_mocker): module_mocker.patch("os.getlogin", return_value="somebody")
def test_mock_of_the_module(patched): assert os.getlogin() == "somebody"
def test_random(): assert random.random() == 2
def test_random_in_a_test(record_property): record_property("number", random.random())
@given(strategies.integers())
def test_hypothesis(number): assert number < 1000
@given(strategies.lists(strategies.text()))
def test_hypothesis_passes(values): assert values is not None
class TestUnittest(unittest.TestCase):
    def test_subtests(self):
        for number in range(3):
            with self.subTest(number=number): self.assertNotEqual(number, 1)
    def test_passes(self): self.assertTrue(True)
@pytest.mark.parametrize("number", range(5))
def test_parameters(number): pass
"""
SUBTESTS = """
def test_subtests(subtests):
    for number in range(3):
        with subtests.test(number=number): assert number != 1
"""


def test_all_at_once_and_in_the_same_random_order(inner, plain_and_jailed) -> None:
    # Pytest has subtests since 9.
    inner.makepyfile(test_mixed=MIXED + SUBTESTS * (pytest.version_tuple >= (9, 0)))
    plugins = [word for name in ("anyio", "pytest_mock", "randomly", "hypothesispytest", "rerunfailures", "timeout", "xdist") for word in ("-p", name)]
    plain, jailed = plain_and_jailed(*plugins, "-p", "randomly", "--randomly-seed=7", "--hypothesis-seed=0", "--timeout=60")
    names = [name for name, when, _ in plain.outcomes() if when == "setup"]
    assert names != sorted(names, key=lambda name: MIXED.find(name.partition("[")[0].rpartition(":")[2]))
    assert {outcome for _, _, outcome in plain.outcomes()} >= {"passed", "failed"}
    assert plain.text.count("Using --randomly-seed=7") == jailed.text.count("Using --randomly-seed=7") == 1


def test_hypothesis_replays_what_it_found_in_a_jail(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.makepyfile("""
        import os
        from hypothesis import given, settings, strategies
        settings.load_profile("default")  # where $CI is set, another one keeps no examples
        @settings(max_examples=300)
        @given(strategies.integers())
        def test_it(number):
            with open(os.path.join(os.environ["TRIED"], "tried"), "a") as file: file.write(f"{number}\\n")
            assert number < 1000
    """)
    tried = inner.path / "base" / "tried"
    arguments = ("-p", "hypothesispytest", "--nsjail", "--basetemp=base")
    monkeypatch.setenv("TRIED", str(tried.parent))
    firsts = []
    for _ in range(2):
        result = inner.runpytest_subprocess(*arguments)
        result.assert_outcomes(failed=1)
        # It is kept, and so nobody says that it is gone.
        result.stdout.no_fnmatch_line("*.hypothesis*")
        firsts.append(tried.read_text().split()[0])
    assert firsts[1] == "1000"
    assert firsts[0] != "1000"
    assert (inner.path / ".hypothesis/examples").is_dir()
    shutil.rmtree(inner.path / ".hypothesis")


def test_benchmarks_are_in_the_table_and_in_the_files(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest, time
        @pytest.mark.benchmark(group="sums")
        @pytest.mark.parametrize("number", [1, 2])
        def test_sum(benchmark, number):
            benchmark.extra_info["of"] = number
            assert benchmark(lambda: number + number) == 2 * number
        def test_pedantic(benchmark):
            assert benchmark.pedantic(lambda: 3, rounds=7, iterations=2) == 3
        def test_fails(benchmark):
            assert benchmark.pedantic(lambda: 3, rounds=3) == 4
        def test_without(): pass
    """)
    found = []
    for jailed in ((), ("--nsjail",)):
        result = inner.runpytest_subprocess(
            "-p", "benchmark", "--benchmark-json=told.json", "--benchmark-save=kept", "--benchmark-max-time=0.05", "--benchmark-min-rounds=5", *jailed
        )
        result.assert_outcomes(passed=4, failed=1)
        result.stdout.fnmatch_lines_random(["*benchmark 'sums': 2 tests*", "test_sum[[]1[]]*", "test_sum[[]2[]]*", "*benchmark: * tests*", "test_pedantic*"])
        told = json.loads((inner.path / "told.json").read_text())["benchmarks"]
        found.append([(one["name"], one["group"], one["params"], one["extra_info"], sorted(one["stats"])) for one in told])
        pedantic = next(one for one in told if one["name"] == "test_pedantic")["stats"]
        assert (pedantic["rounds"], pedantic["iterations"]) == (7, 2)
        assert 0 < pedantic["min"] <= pedantic["mean"] <= pedantic["max"]
        assert len(list(inner.path.glob(".benchmarks/*/*_kept.json"))) == 1
        shutil.rmtree(inner.path / ".benchmarks")
    assert found[0] == found[1]


def test_every_plugin_that_is_installed_is_active(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user has them: nobody names any, and a session with workers, coverage and reruns goes on to its end."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    inner.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    inner.makepyfile(under="def run(flag):\n    if flag:\n        return 1\n    return 2\n")
    inner.makepyfile(test_it="""
        import os, time, pytest, under
        async def test_async(): assert under.run(True) == 1
        def test_mock(mocker): mocker.patch("os.getcwd"); under.run(False)
        def test_benchmark(benchmark): benchmark(lambda: 1)
        def test_rerun(tmp_path_factory):
            with open(tmp_path_factory.getbasetemp() / "times", "a+") as file:
                file.write("x")
                assert file.tell() > 1
        # pytest-timeout has a timer for the first try alone.
        @pytest.mark.flaky(reruns=0)
        @pytest.mark.timeout(2)
        def test_hang(): time.sleep(1000)
        def test_death(): os._exit(0)
    """)
    arguments = ("-p", "nsjail", "-n2", "--reruns=1", "--timeout=60", "--cov=under", "--cov-branch", "--cov-report=term-missing", "-W", "ignore", "-rR")
    result = inner.runpytest_subprocess("--nsjail", *arguments, "--junitxml=report.xml", timeout=120)
    outcomes = result.parseoutcomes()
    assert {name: outcomes[name] for name in ("passed", "failed", "rerun")} == {"passed": 4, "failed": 2, "rerun": 2}
    result.stdout.fnmatch_lines(["under.py * 100%"])
    assert not re.search(r"worker 'gw\d' crashed", str(result.stdout))
    assert len(set(re.findall(r'<testcase [^>]* name="(\w+)"', (inner.path / "report.xml").read_text()))) == 6

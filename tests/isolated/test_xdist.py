"""pytest-xdist: workers run isolated tests as they run others; what kills a test does not kill its worker."""

from __future__ import annotations

import re
import sys

import pytest

SCOPES = """
import os, warnings
import pytest

@pytest.fixture(scope="module")
def shared(worker_id):
    yield worker_id
@pytest.fixture(scope="class")
def of_class(worker_id): return worker_id

@pytest.mark.parametrize("number", range(3))
def test_function(number, shared, worker_id, record_property):
    record_property("number", number)
    print("said", number)
    assert shared == worker_id == os.environ["PYTEST_XDIST_WORKER"]
def test_fails(): raise ValueError
def test_warns(): warnings.warn("beware")
class TestClass:
    @pytest.mark.parametrize("number", range(3))
    def test_method(self, number, of_class, worker_id): assert of_class == worker_id
    def test_skips(self): pytest.skip("for a reason")
@pytest.fixture
def broken(): raise ValueError
def test_broken(broken): pass
"""


@pytest.mark.parametrize("dist", ["loadscope", "loadfile"])
def test_each_way_to_distribute(inner: pytest.Pytester, plain_and_jailed, dist: str) -> None:
    inner.makepyfile(test_one=SCOPES, test_two=SCOPES)
    plain, jailed = plain_and_jailed("-p", "xdist", "-n2", f"--dist={dist}", "-v", sort=True)
    jailed.result.assert_outcomes(passed=14, failed=2, skipped=2, errors=2, warnings=2)
    for told in (plain, jailed):
        workers: dict[str, set[str]] = {}
        for worker, nodeid in re.findall(r"\[(gw\d)\] \[ *\d+%\] [A-Z]+ (\S+)", told.text):
            file, _, name = nodeid.partition("::")
            workers.setdefault(file if dist == "loadfile" else f"{file}::{name.rpartition('::')[0]}", set()).add(worker)
        assert all(len(some) == 1 for some in workers.values())
        assert set().union(*workers.values()) == {"gw0", "gw1"}


def test_a_death_is_not_the_workers(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import os, signal, pytest
        @pytest.fixture(scope="session")
        def worker(worker_id, tmp_path_factory):
            with open(tmp_path_factory.getbasetemp().parent / worker_id, "a") as file: file.write(f"{os.getpid()}\\n")
        @pytest.mark.parametrize("number", ["SIGSEGV", "SIGKILL", "SIGTERM", "SIGABRT"])
        def test_dies(number, worker): os.kill(os.getpid(), getattr(signal, number))
        def test_exits(worker): os._exit(0)
        def test_interrupts_nobody(worker): assert os.getppid() == 0
        @pytest.mark.parametrize("number", range(6))
        def test_lives(number, worker): pass
    """)
    result = inner.run(sys.executable, "-m", "pytest", f"--basetemp={inner.path}.base", "-p", "xdist", "-n2", "--nsjail", "-v", timeout=60)
    result.assert_outcomes(passed=7, failed=5)
    result.stdout.no_fnmatch_line("*worker * crashed*")
    result.stdout.fnmatch_lines_random([f"FAILED *test_dies[[]{name}[]]*" for name in ("SIGSEGV", "SIGKILL", "SIGTERM", "SIGABRT")])
    # Two workers, each of which has been there from the first to the last.
    assert {path.name: len(path.read_text().split()) for path in inner.path.with_name(f"{inner.path.name}.base").glob("gw*") if path.is_file()} == {
        "gw0": 1, "gw1": 1,
    }


def test_the_first_failure_ends_it(inner: pytest.Pytester) -> None:
    inner.makepyfile("import pytest\n@pytest.mark.parametrize('number', range(50))\ndef test_it(number): assert number > 50\n")
    result = inner.runpytest_subprocess("-p", "xdist", "-n2", "--nsjail", "-x", timeout=60)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert 1 <= result.parseoutcomes()["failed"] <= 4

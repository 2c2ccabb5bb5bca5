"""Ctrl-C where it hurts: between a fork and that anybody knows of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pytest_nsjail.kernel.handlers import held

# As by the keyboard, when fork(2) has come back and before it is seen what it gave: where Python runs a signal's handler.
CONFTEST = """
    import os, signal
    from pytest_nsjail.runtime.template import Template

    fork, forks, whose, init = os.fork, {{"test": 0, "template": 0}}, ["test"], Template.__init__

    def template(self, *args):
        whose[0] = "template"
        try:
            init(self, *args)
        finally:
            whose[0] = "test"

    def interrupted():
        forks[whose[0]] += 1
        pid = fork()
        if whose[0] == {whose!r} and forks[whose[0]] == {which} and (pid == 0) == {in_child}:
            signal.raise_signal(signal.SIGINT)
        return pid

    Template.__init__, os.fork = template, interrupted
"""
TESTS = """
    import pytest

    @pytest.fixture(scope="module")
    def resource(tmp_path_factory):
        yield
        tmp_path_factory.getbasetemp().joinpath("torn-down").open("x")

    @pytest.mark.parametrize("n", range({count}))
    def test_it(n, resource): pass
"""
FEW, MANY = 4, 20


def _session(inner: pytest.Pytester, count: int, whose: str, *, which: int, in_child: bool) -> subprocess.Popen[str]:
    inner.makeconftest(textwrap.dedent(CONFTEST).format(whose=whose, which=which, in_child=in_child))
    inner.makepyfile(textwrap.dedent(TESTS).format(count=count))
    command = [sys.executable, "-m", "pytest", "--nsjail", f"--basetemp={inner.path}/base"]
    return subprocess.Popen(command, cwd=inner.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def _is_left(session: int) -> bool:
    """Whether anybody of a session of processes is there."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                if os.getsid(int(path.name)) == session:
                    return True
            except ProcessLookupError:
                pass
    return False


@pytest.mark.parametrize(
    ("count", "whose", "which", "in_child"),
    [(FEW, "test", 1, False), (FEW, "test", 2, False), (FEW, "test", 2, True), (MANY, "template", 1, False), (MANY, "test", 2, True)],
    ids=["the-first-tests", "a-tests", "in-its-process", "a-template's", "beside-a-template"],
)
def test_an_interrupted_fork_is_not_lost(inner: pytest.Pytester, count: int, whose: str, which: int, in_child: bool) -> None:
    with _session(inner, count, whose, which=which, in_child=in_child) as session:
        try:
            said = session.communicate(timeout=30)[0]
        except subprocess.TimeoutExpired:
            session.kill()
            raise
    assert session.returncode == pytest.ExitCode.INTERRUPTED, said
    # Once: nobody goes on as a second pytest.
    assert said.count("!!! KeyboardInterrupt !!!") == 1
    assert inner.path.joinpath("base/torn-down").exists()
    assert not _is_left(session.pid)


def test_a_template_takes_no_interest(inner: pytest.Pytester) -> None:
    with _session(inner, MANY, "template", which=1, in_child=True) as session:
        said = session.communicate(timeout=30)[0]
    assert session.returncode == 0, said


@pytest.mark.parametrize("count", [1, MANY])
def test_it_is_told_where_the_test_was(inner: pytest.Pytester, count: int) -> None:
    inner.makepyfile(test_it=textwrap.dedent(f"""
        import pathlib, pytest, time
        @pytest.mark.parametrize("n", range({count}))
        def test_before(n): pass
        def test_it(tmp_path_factory):
            tmp_path_factory.getbasetemp().joinpath("begun").open("x")
            time.sleep(60)
    """))
    command = [sys.executable, "-m", "pytest", "--nsjail", f"--basetemp={inner.path}/base"]
    with subprocess.Popen(command, cwd=inner.path, stdout=subprocess.PIPE, text=True, start_new_session=True) as session:
        while not inner.path.joinpath("base/begun").exists():
            assert session.poll() is None
            time.sleep(0.01)
        time.sleep(0.3)  # until it sleeps itself
        os.killpg(session.pid, signal.SIGINT)
        said = session.communicate(timeout=30)[0]
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert "test_it.py:6: KeyboardInterrupt" in said


def test_who_has_not_begun_does_not_go_on_as_a_second_pytest(inner: pytest.Pytester) -> None:
    inner.makeconftest("""
        from pytest_nsjail.plugin import pools
        def begin_anew(): raise ValueError("of a plugin's")
        pools.begin_anew = begin_anew
        def pytest_sessionfinish(): print("a session's end")
    """)
    inner.makepyfile("def test_it(): pass\ndef test_next(): pass\n")
    result = inner.runpytest_subprocess("--nsjail", "-s")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["nsjail: cannot make the jail: begin the test in it: ValueError(*of a plugin's*"])
    assert result.stdout.str().count("a session's end") == 1


@pytest.mark.parametrize("comes", [signal.SIGINT, signal.SIGALRM])
def test_handlers_that_raise_are_all_given_back(comes: signal.Signals) -> None:
    def raises(number: int, frame: object) -> None:
        raise InterruptedError(number)

    before = {number: signal.signal(number, raises) for number in (signal.SIGINT, signal.SIGALRM)}
    try:
        with pytest.raises(InterruptedError), held():
            signal.raise_signal(comes)
        for number in before:
            assert signal.getsignal(number) is raises
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_before_a_fork_is_the_parents_alone() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    try:
        with held():
            signal.raise_signal(signal.SIGALRM)
            child = os.fork()
        if child == 0:
            os._exit(len(heard))
        assert os.waitpid(child, 0)[1] == 0
        assert heard == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, before)

"""Processes of tests that are forked ahead: when they are, and that nobody can tell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MANY = "import os, pytest, time\n@pytest.mark.parametrize('n', range({count}))\ndef test_it(n): time.sleep({pause})\n"


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _depth(pid: int) -> int:
    """In how many pid namespaces a process is."""
    try:
        return len(re.search(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1].split())  # type: ignore[index]
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _templates(pid: int) -> list[int]:
    """The forks of a process, in its own pid namespace, that have children in one below."""
    here, name = _depth(pid), _name(pid)
    forks = [child for child in _children(pid) if _depth(child) == here and _name(child) == name]
    return [fork for fork in forks if any(_depth(one) > here for one in _children(fork))]


class Running:
    """A session of the inner pytest, in a session of processes of its own."""

    def __init__(self, inner: pytest.Pytester, *arguments: str) -> None:
        command = [sys.executable, "-m", "pytest", "--nsjail", f"--basetemp={inner.path}/base", *arguments]
        self.process = subprocess.Popen(command, cwd=inner.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    @property
    def pid(self) -> int:
        return self.process.pid

    def template(self) -> int:
        """Wait for one; 0 where the session ended before."""
        while self.process.poll() is None:
            # A plain user's pytest has such a fork for a moment, for every test.
            if found := _templates(self.pid):
                time.sleep(0.02)
                if found[0] in _templates(self.pid):
                    return found[0]
            time.sleep(0.002)
        return 0

    def said(self) -> str:
        """All, when it has ended."""
        return self.process.communicate(timeout=60)[0]

    def nobody_is_left(self) -> bool:
        """Wait a moment until nobody of its session is."""
        deadline = time.monotonic() + 5
        while self._left():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _left(self) -> list[int]:
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _sid(int(path.name)) == self.pid]


def _sid(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


@pytest.fixture
def running(inner: pytest.Pytester) -> Iterator[Callable[..., Running]]:
    some: list[Running] = []

    def run(*arguments: str) -> Running:
        some.append(Running(inner, *arguments))
        return some[-1]

    yield run
    for one in some:
        one.process.kill()
        one.process.communicate()


def test_it_is_forked_from_a_template(inner: pytest.Pytester, running: Callable[..., Running]) -> None:
    inner.makepyfile(MANY.format(count=12, pause=0.05))
    session = running()
    template = session.template()
    assert template
    most = 0
    while session.process.poll() is None:
        most = max(most, len([child for child in _children(template) if _depth(child) > _depth(session.pid)]))
    # The one that runs, the one that waits, and one that is about to end.
    assert 2 <= most <= 3
    assert " 12 passed in " in session.said()
    assert session.nobody_is_left()


@pytest.mark.parametrize(
    ("conftest", "tests", "options"),
    [
        ("def pytest_runtest_setup(item): pass\n", "", []),
        ("", "import threading\n@pytest.fixture(scope='module', autouse=True)\ndef thread():\n    end = threading.Event()\n"
         "    thread = threading.Thread(target=end.wait)\n    thread.start()\n    yield\n    end.set()\n    thread.join()\n", []),
        ("", "@pytest.fixture(scope='module', params=[1, 2, 3, 4], autouse=True)\ndef param(request): return request.param\n", []),
        ("", "", ["-s"]),
        ("", "", ["--setup-show"]),
        ("", "", ["-o", "log_cli=true"]),
        ("", "", ["-o", "faulthandler_timeout=60"]),
    ],
    ids=["a-hook", "a-thread", "parameters-of-the-module", "-s", "--setup-show", "log_cli", "faulthandler"],
)
def test_there_is_none_where_it_could_make_a_difference(
    inner: pytest.Pytester, running: Callable[..., Running], conftest: str, tests: str, options: list[str],
) -> None:
    inner.makeconftest(conftest)
    inner.makepyfile(MANY.format(count=10, pause=0.01) + tests)
    session = running(*options)
    assert not session.template()
    assert " passed in " in session.said()


def test_pytest_may_lack_parts_of_its_own(inner: pytest.Pytester, running: Callable[..., Running]) -> None:
    inner.makepyfile(MANY.format(count=12, pause=0.02))
    session = running(*(f"-pno:{name}" for name in ("debugging", "faulthandler", "logging", "junitxml", "cacheprovider", "setuponly")))
    assert session.template()
    assert " 12 passed in " in session.said()


def test_there_is_none_for_a_few_tests(inner: pytest.Pytester, running: Callable[..., Running]) -> None:
    inner.makepyfile(MANY.format(count=5, pause=0.05))
    assert not running().template()


def test_what_it_finds_and_how_it_ends(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import os, pytest, select, signal, sys, time
        @pytest.fixture(scope="module")
        def pipe():
            reads, writes = os.pipe()
            yield writes
            os.close(writes)
            # Nobody has a copy any more, but for a moment the last test's own process.
            assert select.select([reads], [], [], 2)[0]
        @pytest.mark.parametrize("n", range(14))
        def test_n(n, pipe, tmp_path, capsys, request):
            assert os.getpid() == 2 and os.environ["PYTEST_CURRENT_TEST"] == f"{request.node.nodeid} (call)"
            assert request.session.testsfailed == max(0, min(n, 7) - 4)
            (tmp_path / "file").write_text("")
            sys.stdout.write(f"{n} to stdout\\n")
            os.write(2, b"to stderr\\n")
            if n == 4: os._exit(4)
            if n == 5: os.kill(os.getpid(), signal.SIGSEGV)
            if n == 6: assert n == 7
            if n == 8: pytest.skip("not today")
            if n == 9: os.system("sleep 98765.43 &")
        @pytest.mark.skipif("sys.platform == 'linux'", reason="it is linux")
        def test_skipped(): pass
        def test_after_a_skip(pipe): assert os.getpid() == 2
        @pytest.mark.xfail
        def test_fails(): os._exit(1)
        @pytest.mark.isolated(timeout=0.3)
        def test_takes_too_long(): time.sleep(60)
        def test_last(): pass
    """)
    result = inner.runpytest_subprocess("--nsjail", "-rA")
    result.assert_outcomes(passed=12, failed=4, skipped=2, xfailed=1)
    result.stdout.fnmatch_lines(["*died during call: it exited with 4 *", "*died during call: killed by SIGSEGV*"])
    result.stdout.fnmatch_lines(["6 to stdout", "*Captured stderr*", "to stderr", "*test_takes_too_long*", "*longer than its timeout of 0.3 s, during call"])
    result.stdout.fnmatch_lines(["*::test_n[[]9]: 1 process: * sleep 98765.43"])


def test_its_set_up_does_not_take_the_time_that_it_waits(inner: pytest.Pytester) -> None:
    inner.makepyfile(MANY.format(count=12, pause="0.4 * (n == 5)"))
    result = inner.runpytest_subprocess("--nsjail", "--durations=0", "--durations-min=0.2")
    result.stdout.fnmatch_lines(["*s call *test_it[[]5]"])
    result.stdout.no_fnmatch_line("*s setup *")


@pytest.mark.parametrize("where", ["call", "teardown"])
def test_who_is_not_called_does_nothing(inner: pytest.Pytester, where: str) -> None:
    inner.makepyfile(f"""
        import pytest
        @pytest.fixture(autouse=True)
        def fixture(request):
            yield
            assert request.node.callspec.params["n"] != 5 or {where!r} == "call"
        @pytest.mark.parametrize("n", range(12))
        def test_it(n, tmp_path_factory):
            tmp_path_factory.getbasetemp().joinpath(str(n)).write_text("")
            assert n != 5 or {where!r} == "teardown"
    """)
    result = inner.runpytest_subprocess("--nsjail", "-x", f"--basetemp={inner.path}/base")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert {path.name for path in inner.path.joinpath("base").iterdir() if path.name.isdigit()} == {str(n) for n in range(6)}


def test_a_template_that_is_killed_is_not_missed(inner: pytest.Pytester, running: Callable[..., Running]) -> None:
    inner.makepyfile(MANY.format(count=20, pause=0.05))
    session = running()
    template = session.template()
    os.kill(template, signal.SIGKILL)
    assert " 20 passed in " in session.said()
    assert session.nobody_is_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nobody_outlives_the_session(inner: pytest.Pytester, running: Callable[..., Running], number: signal.Signals) -> None:
    inner.makepyfile(MANY.format(count=20, pause=0.2))
    session = running()
    assert session.template()
    if number == signal.SIGINT:
        os.killpg(session.pid, number)  # as a terminal does
        assert session.process.wait(30) == pytest.ExitCode.INTERRUPTED
        assert "!!! KeyboardInterrupt !!!" in session.said()
    else:
        session.process.kill()
        session.process.wait()
    assert session.nobody_is_left()


@pytest.mark.parametrize(
    ("tests", "outcomes"),
    [
        ("""
            @pytest.mark.parametrize("n", range(9))
            def test_it(n): pass
            @pytest.mark.isolated(timeout=0.5)
            def test_slow(): time.sleep(60)
            @pytest.mark.isolated(timeout=60)
            @pytest.mark.parametrize("n", range(9))
            def test_other(n): pass
        """, {"passed": 18, "failed": 1}),
        ("""
            state = []
            @pytest.mark.parametrize("n", range(9))
            def test_it(n): assert not state
            @pytest.mark.skip
            def test_skipped(): pass
            @pytest.mark.isolated(False)
            def test_changes_pytest_itself(): state.append(1)
            @pytest.mark.parametrize("n", range(9))
            def test_after(n): assert state
        """, {"passed": 19, "skipped": 1}),
        ("""
            @pytest.fixture(scope="module")
            def pipe():
                reads, writes = os.pipe()
                yield writes
                os.close(writes)
                assert select.select([reads], [], [], 2)[0]
            @pytest.mark.parametrize("n", range(12))
            def test_it(n, pipe): pass
            @pytest.mark.skip
            def test_skipped(): pass
        """, {"passed": 12, "skipped": 1}),
        ("""
            @pytest.fixture(scope="module")
            def value(request): return getattr(request, "param", "none")
            @pytest.mark.parametrize("value", ["first"], indirect=True)
            def test_first(value): assert value == "first"
            @pytest.mark.parametrize("n", range(9))
            def test_it(n, value): assert value == "none"
            @pytest.mark.parametrize("value", range(9), indirect=True, scope="function")
            def test_last(value): assert value in range(9)
        """, {"passed": 19}),
        ("""
            @pytest.fixture
            def file(tmp_path_factory): return tmp_path_factory.getbasetemp() / "file"
            there = "os.path.exists(os.path.join(config._tmp_path_factory.getbasetemp(), 'file'))"
            @pytest.mark.parametrize("n", range(9))
            def test_it(n): pass
            def test_makes(file):
                time.sleep(0.1)
                file.write_text("")
            @pytest.mark.skipif(there, reason="it is there")
            def test_it_is_there(file): file.with_name("ran").write_text("")
            def test_removes(file):
                time.sleep(0.1)
                file.unlink()
            @pytest.mark.xfail(there, reason="it is there")
            def test_it_is_not(): assert 0
            def test_it_has_not_run(file): assert not file.with_name("ran").exists()
        """, {"passed": 12, "skipped": 1, "failed": 1}),
        ("""
            @pytest.mark.parametrize("n", range(12))
            def test_it(n): warnings.warn("old", DeprecationWarning)
        """, {"failed": 12}),
        ("""
            class Counts:
                seen = 0
                def pytest_runtest_logreport(self): self.seen += 1
            counts = Counts()
            @pytest.fixture(scope="class")
            def counting(request):
                request.config.pluginmanager.register(counts)
                yield
                request.config.pluginmanager.unregister(counts)
            class TestNobody:
                @pytest.mark.parametrize("n", range(9))
                def test_it(self, n): pass
            class TestCounted:
                @pytest.mark.parametrize("n", range(9))
                def test_it(self, n, counting): assert counts.seen >= 3 * n
        """, {"passed": 18}),
    ],
    ids=["another-world", "not-isolated", "a-skip-comes-last", "parameters", "conditions", "warnings", "a-plugin"],
)
def test_it_makes_no_difference(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tests: str, outcomes: dict[str, int]) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error::DeprecationWarning")
    inner.makepyfile("import os, pytest, select, time, warnings\n" + textwrap.dedent(tests))
    result = inner.runpytest_subprocess("--nsjail", timeout=30)
    found = {name: number for name, number in result.parseoutcomes().items() if name in ("passed", "failed", "skipped", "errors")}
    assert found == outcomes


def test_the_zygotes_end_is_the_end_of_a_test(inner: pytest.Pytester, running: Callable[..., Running]) -> None:
    inner.makepyfile(MANY.format(count=30, pause=0.05))
    session = running()
    assert session.template()
    keeper = next(child for child in _children(session.pid) if _name(child) == "nsjail-keeper\n")
    (zygote,) = _children(keeper)
    os.kill(zygote, signal.SIGKILL)
    # In its call, in its set-up, or none had begun.
    assert re.search(r" 1 failed, 29 passed in | 29 passed, 1 error in | 30 passed in ", session.said())
    assert session.nobody_is_left()

"""However a test's process ends, its test has a report, and the next test runs."""

from __future__ import annotations

import pytest

DEATHS = [
    ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
    ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    ("signal.raise_signal(signal.SIGTERM)", "killed by SIGTERM"),
    ("os.abort()", "killed by SIGABRT"),
    ("ctypes.string_at(0)", "killed by SIGSEGV"),
    ("os._exit(0)", "it exited with 0 (os._exit, or a library's exit)"),
    ("os._exit(3)", "it exited with 3 (os._exit, or a library's exit)"),
]
IMPORTS = "import ctypes, os, signal, sys, time, pytest\n"


@pytest.mark.parametrize(("death", "said"), DEATHS)
def test_a_death_is_a_failure_that_says_how(inner: pytest.Pytester, death: str, said: str) -> None:
    inner.makepyfile(IMPORTS + f"def test_it():\n    print('so far')\n    sys.stdout.flush()\n    {death}\ndef test_next(): pass\n")
    result = inner.runpytest_subprocess("--nsjail")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"the test's process died during call: {said}", "*Captured stdout call*", "so far"])
    result.stdout.no_fnmatch_line("*All traceback entries are hidden*")


def test_a_stack_that_the_interpreter_wrote_is_shown(inner: pytest.Pytester) -> None:
    inner.makepyfile(IMPORTS + "def test_it(): ctypes.string_at(0)\n")
    inner.runpytest_subprocess("--nsjail").stdout.fnmatch_lines(["*Captured stderr call*", "Fatal Python error: Segmentation fault", "*in test_it*"])


@pytest.mark.parametrize(("before", "after", "phase", "outcomes"), [
    ("os._exit(5)", "", "setup", {"errors": 1, "passed": 1}),
    ("", "os._exit(5)", "teardown", {"errors": 1, "passed": 2}),
])
def test_each_phase(inner: pytest.Pytester, before: str, after: str, phase: str, outcomes: dict[str, int]) -> None:
    body = f"@pytest.fixture\ndef dying():\n    {before or 'pass'}\n    yield\n    {after or 'pass'}\ndef test_it(dying): pass\ndef test_next(): pass\n"
    inner.makepyfile(IMPORTS + body)
    result = inner.runpytest_subprocess("--nsjail")
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines([f"the test's process died during {phase}: it exited with 5 *"])


def test_expected_deaths(inner: pytest.Pytester) -> None:
    inner.makepyfile(IMPORTS + """
@pytest.mark.xfail
def test_it(): os._exit(0)
@pytest.mark.xfail(raises=ValueError)
def test_another_error(): os._exit(0)
def test_expected_since(request):
    request.applymarker(pytest.mark.xfail)
    os._exit(0)
@pytest.fixture
def expecting(request): request.applymarker(pytest.mark.xfail(reason="told in time"))
def test_expected_in_setup(expecting): os._exit(0)
""")
    inner.runpytest_subprocess("--nsjail").assert_outcomes(xfailed=2, failed=2)


def test_a_marker_of_the_phase_that_it_died_in_is_not_known(inner: pytest.Pytester) -> None:
    inner.makepyfile(IMPORTS + "def test_it(request):\n    request.applymarker(pytest.mark.xfail)\n    os._exit(0)\n")
    inner.runpytest_subprocess("--nsjail").assert_outcomes(failed=1)


def test_higher_fixtures_are_torn_down_after_a_death(inner: pytest.Pytester) -> None:
    inner.makepyfile(IMPORTS + "@pytest.fixture(scope='module')\ndef shared():\n    yield\n    print('shared down')\ndef test_it(shared): os._exit(0)\n")
    inner.runpytest_subprocess("--nsjail", "-s").stdout.fnmatch_lines(["*shared down*"])


def test_who_comes_out_of_a_test_by_its_fork_reports_nothing(inner: pytest.Pytester) -> None:
    inner.makepyfile(IMPORTS + """
def test_exit():
    if os.fork() == 0: raise SystemExit
    os.wait()
def test_return():
    if os.fork() == 0: return
    os.wait()
def test_next(): pass
""")
    inner.runpytest_subprocess("--nsjail").assert_outcomes(passed=3)


def test_a_process_that_holds_everything_open_does_not_hold_the_session(inner: pytest.Pytester) -> None:
    inner.makepyfile(IMPORTS + """
def test_it():
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
    os.kill(os.getpid(), signal.SIGKILL)
""")
    result = inner.runpytest_subprocess("--nsjail", timeout=60)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*killed by SIGKILL*", "*nsjail: leftovers*"])


@pytest.mark.parametrize(("chosen", "outcomes"), [("report", {"passed": 1}), ("fail", {"passed": 1, "errors": 1})])
def test_leftovers(inner: pytest.Pytester, chosen: str, outcomes: dict[str, int]) -> None:
    inner.makepyfile("import subprocess\ndef test_it(): subprocess.Popen(['sleep', '1000']); print('called')\n")
    result = inner.runpytest_subprocess("--nsjail", "-rP", "-o", f"nsjail_leftovers={chosen}", timeout=60)
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines(["*nsjail: leftovers at teardown*", "*sleep 1000"])


@pytest.mark.parametrize("how", [
    "os.kill(0, signal.SIGTERM)",
    "os.killpg(os.getpgrp(), signal.SIGTERM)",
    "os.kill(os.getppid(), signal.SIGTERM)",
    "os.system('trap \"kill -TERM 0\" EXIT; true')",
])
def test_its_process_group_is_its_own(inner: pytest.Pytester, how: str) -> None:
    inner.makepyfile(IMPORTS + f"""
@pytest.mark.parametrize("n", range(12))
def test_before(n): assert os.getsid(0) == os.getpgrp() == os.getpid()
def test_it(): {how}
def test_next(): pass
""")
    result = inner.runpytest_subprocess("--nsjail", timeout=60)
    result.assert_outcomes(passed=13, failed=1)
    result.stdout.fnmatch_lines(["*died during call: killed by SIGTERM*"])


def test_a_time_limit_shows_every_thread(inner: pytest.Pytester) -> None:
    inner.makepyfile(IMPORTS + """
import threading
def elsewhere(): time.sleep(1000)
@pytest.mark.isolated(timeout=0.5)
def test_it():
    print("so far")
    threading.Thread(target=elsewhere).start()
    time.sleep(1000)
def test_next(): pass
""")
    result = inner.runpytest_subprocess(timeout=60)
    result.assert_outcomes(failed=1, passed=1)
    said = "the test took longer than its timeout of 0.5 s, during call"
    result.stdout.fnmatch_lines([said, "Thread *", "*in elsewhere", "*Captured stdout call*", "so far"])
    result.stdout.fnmatch_lines(["Current thread *", "*in test_it"])
    result.stdout.no_fnmatch_line("*_pytest*")


def test_a_time_limit_for_who_does_not_listen(inner: pytest.Pytester) -> None:
    inner.makepyfile(IMPORTS + """
@pytest.mark.isolated(timeout=0.5)
def test_it():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    time.sleep(1000)
""")
    result = inner.runpytest_subprocess(timeout=60)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the test took longer than its timeout of 0.5 s, during call"])


@pytest.mark.parametrize(("body", "status", "said"), [
    ("raise KeyboardInterrupt", pytest.ExitCode.INTERRUPTED, "*test_it.py:10: KeyboardInterrupt"),
    ("os.kill(os.getpid(), signal.SIGINT)", pytest.ExitCode.INTERRUPTED, "*test_it.py:10: KeyboardInterrupt"),
    ("pytest.exit('enough', 7)", 7, "*Exit: enough*"),
])
def test_what_ends_a_session_ends_it(inner: pytest.Pytester, body: str, status: int, said: str) -> None:
    inner.makepyfile(test_it=IMPORTS + f"""
@pytest.fixture
def down():
    yield
    print("torn down")
@pytest.fixture(scope="module")
def shared(): yield; print("shared down")
def test_it(down, shared):
    {body}
def test_next(): pass
""")
    result = inner.runpytest_subprocess("--nsjail", "-s", "-rA")
    assert result.ret == status
    result.stdout.fnmatch_lines(["*torn down", "*shared down", said])
    result.stdout.no_fnmatch_line("*test_next*")

"""pytest-timeout: a test that hangs in a jail is a failure that says so, whichever the method, and the others go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

IMPORTS = "import os, signal, subprocess, threading, time, pytest\n"
HANGING = IMPORTS + """
@pytest.fixture
def slow_to_come(): time.sleep(1000)
@pytest.fixture
def slow_to_go():
    yield
    time.sleep(1000)
@pytest.fixture(scope="module")
def shared():
    yield
    print("shared down")

@pytest.mark.timeout(0.5)
def test_call(shared):
    print("so far")
    time.sleep(1000)
@pytest.mark.timeout(0.5)
def test_setup(slow_to_come, shared): pass
@pytest.mark.timeout(0.5)
def test_teardown(slow_to_go, shared): pass
@pytest.mark.timeout(0.5)
def test_another_thread():
    thread = threading.Thread(target=time.sleep, args=(1000,), daemon=True, name="elsewhere")
    thread.start()
    thread.join()
@pytest.mark.timeout(0.5, func_only=True)
def test_function_only(shared): time.sleep(1000)
@pytest.mark.xfail
@pytest.mark.timeout(0.5)
def test_expected(): time.sleep(1000)
@pytest.mark.timeout(0.5)
def test_again_and_again():
    with pytest.raises(pytest.fail.Exception): time.sleep(1000)
@pytest.mark.timeout(60)
def test_in_time(shared): pass
def test_without_a_mark(): pass
"""


def _with_argument(text: str) -> list[str]:
    """The processes that have it among their arguments."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if text in Path(f"/proc/{entry}/cmdline").read_text(errors="replace").split("\0"):
                found.append(entry)
        except OSError:
            pass
    return found


def test_by_signal_it_is_what_it_is_outside(inner: pytest.Pytester, plain_and_jailed) -> None:
    inner.makepyfile(test_it=HANGING)
    plain, jailed = plain_and_jailed("-p", "timeout", "-rA", "-s")
    jailed.result.assert_outcomes(passed=4, failed=3, errors=2, xfailed=1)
    assert plain.text.count("Failed: Timeout (>0.5s) from pytest-timeout.") == jailed.text.count("Failed: Timeout (>0.5s) from pytest-timeout.") > 5
    jailed.result.stdout.fnmatch_lines(["*Stack of elsewhere *", "*in run"])


def test_by_a_thread_a_hung_test_is_a_failure_and_the_others_go_on(inner: pytest.Pytester) -> None:
    """Outside of a jail it is the end of the session."""
    inner.makepyfile(test_it=HANGING + """
@pytest.mark.timeout(0.5)
def test_does_not_listen():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    subprocess.Popen(["sleep", "98765.43"], start_new_session=True)
    time.sleep(1000)
def test_last(): pass
""")
    result = inner.runpytest_subprocess("--nsjail", "-p", "timeout", "--timeout-method=thread", "-rA", timeout=60)
    result.assert_outcomes(passed=4, failed=5, errors=2, xfailed=1)
    said = "Timeout (>0.5s) from pytest-timeout."
    result.stdout.fnmatch_lines(["*ERROR at setup of test_setup*", said, "*ERROR at teardown of test_teardown*", said, "* test_call *", said])
    result.stdout.fnmatch_lines(["* test_call *", said, "*Captured stacks call*", "Stack of MainThread *", "*in test_call", "*Captured stdout call*", "so far"])
    result.stdout.fnmatch_lines(["Stack of elsewhere *", "Stack of MainThread *", "*in test_another_thread", "*test_does_not_listen*98765.43*"])
    assert str(result.stdout).count(" - Failed: Timeout (>0.5s)") == 7
    assert not _with_argument("98765.43")


def test_a_limit_for_all(inner: pytest.Pytester) -> None:
    inner.makeini("[pytest]\ntimeout = 0.5\n")
    inner.makepyfile(IMPORTS + """
@pytest.fixture(scope="module")
def shared():
    time.sleep(0.3)
    yield
    time.sleep(1000)
def test_hangs():
    subprocess.Popen(["sleep", "98765.44"], start_new_session=True)
    time.sleep(1000)
def test_in_time(): time.sleep(0.1)
def test_a_fixture_counts(shared): time.sleep(0.3)
def test_last(shared): pass
""")
    result = inner.runpytest_subprocess("--nsjail", "-p", "timeout", timeout=60)
    # The tear-down of the module's fixture is the parent's, whose clock it is when the child has ended.
    result.assert_outcomes(passed=2, failed=2, errors=1)
    assert not _with_argument("98765.44")


def test_a_session_has_its_limit(inner: pytest.Pytester, plain_and_jailed) -> None:
    inner.makepyfile("import time\ndef test_first(): time.sleep(0.5)\ndef test_next(): pass\n")
    _, jailed = plain_and_jailed("-p", "timeout", "--session-timeout=0.2")
    jailed.result.assert_outcomes(passed=1)
    jailed.result.stdout.fnmatch_lines(["*session-timeout: 0.2 sec exceeded*"])

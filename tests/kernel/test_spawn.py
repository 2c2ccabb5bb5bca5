"""A child that is a list of system calls: by the machine's own instructions, and by the fork that stands in for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from pytest_nsjail.kernel.spawn import Call, Child
native = sys.argv[1] == "native"
def run(*calls):
    up, silence = os.pipe2(os.O_CLOEXEC)
    child = Child([*calls])
    child.bear(0, native=native)
    os.close(silence)
    os.read(up, 1)
    os.close(up)
    failure = child.failure()
    return (failure and (failure[0].step, failure[1])), os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
def execute(program, *argv, env=()):
    return Call("execute", "execve", (program.encode(), tuple(one.encode() for one in argv), tuple(one.encode() for one in env)), may_fail=True)
"""


def _run(way: str, body: str) -> str:
    # In a process of its own: pytest has threads, and a zygote has none.
    ran = subprocess.run([sys.executable, "-c", SCRIPT + body, way], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(params=["native", "fork"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_calls_are_made_in_order_and_the_program_runs(way):
    body = """
read, write = os.pipe()
print(run(Call("chdir", "chdir", (b"/proc",)), Call("umask", "umask", (0o27,)), Call("stdout", "dup3", (write, 1, 0)),
          execute("/bin/sh", "sh", "-c", "pwd; umask; echo $A; exit 7", env=["A=b c"])))
os.close(write)
print(os.read(read, 100))
"""
    assert _run(way, body) == "(None, 7)\nb'/proc\\n0027\\nb c\\n'\n"


def test_the_first_failure_ends_it_and_is_named(way):
    body = """print(run(Call("one", "chdir", (b"/",)), Call("two", "chdir", (b"/absent",)), execute("/bin/true", "true")))"""
    assert _run(way, body) == "(('two', 2), 127)\n"


def test_a_failure_that_may_be_is_passed_over(way):
    body = """print(run(Call("one", "chdir", (b"/absent",), may_fail=True), execute("/bin/sh", "sh", "-c", "exit 3")))"""
    assert _run(way, body) == "(None, 3)\n"


def test_programs_are_tried_in_turn(way):
    assert _run(way, """print(run(execute("/absent", "x"), execute("/bin/sh", "sh", "-c", "exit 4"), execute("/bin/false", "x")))""") == "(None, 4)\n"


def test_the_refusal_of_a_file_that_is_there_says_more(way):
    assert _run(way, """print(run(execute("/absent", "x"), execute("/etc", "x"), execute("/absent/too", "x")))""") == "(('execute', 13), 127)\n"


def test_it_disturbs_nobody_who_bore_it(way):
    body = """
import signal
before = os.getcwd(), os.getsid(0), signal.pthread_sigmask(signal.SIG_BLOCK, ())
for _ in range(50):
    assert run(Call("session", "setsid"), Call("chdir", "chdir", (b"/proc",)), execute("/bin/true", "true")) == (None, 0)
assert before == (os.getcwd(), os.getsid(0), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
print(len(os.listdir("/proc/self/fd")))
"""
    assert int(_run(way, body)) < 8


def test_a_signal_that_waited_runs_no_handler_in_the_childs_shared_memory(way):
    body = """
import signal, time
from pytest_nsjail.jail.command import REHEARSAL
from pytest_nsjail.jail.payload import Payload
woken, wake = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(wake)
signal.signal(signal.SIGCHLD, lambda *_: None)
go, give = os.pipe()
payload = Payload(None, 0)
payload.order(REHEARSAL)
signals = [call for call in payload._child._calls if call.name.startswith("rt_sig")]
up, silence = os.pipe2(os.O_CLOEXEC)
child = Child([Call("wait", "read", (go, bytes(bytearray(8)), 1)), *signals, execute("/bin/sleep", "sleep", "60")])
child.bear(0, native=native)
os.close(silence)
os.kill(child.pid, signal.SIGCHLD)
os.write(give, b"x")
os.read(up, 1)
try:
    print(os.read(woken, 9))
except BlockingIOError:
    print("nothing")
os.kill(child.pid, signal.SIGKILL)
"""
    assert _run(way, body) == "nothing\n"


def test_one_that_shares_our_memory_hears_what_is_added_while_it_waits():
    body = """
go, give = os.pipe2(os.O_CLOEXEC)
read, write = os.pipe2(os.O_CLOEXEC)
child = Child([Call("wait", "read", (go, bytes(bytearray(8)), 1))])
child.bear(0, native=native)
child.add([Call("stdout", "dup3", (write, 1, 0)), execute("/bin/sh", "sh", "-c", "echo heard")])
os.write(give, b"x")
os.waitpid(child.pid, 0)
print(os.read(read, 100), child.failure())
"""
    assert _run("native", body) == "b'heard\\n' None\n"


def test_more_calls_than_any_child_has_to_make_are_refused():
    body = """
try:
    Child([Call("umask", "umask", (0,))] * 20_000)
except OSError as error:
    print(error.strerror)
"""
    assert _run("native", body) == "Argument list too long\n"

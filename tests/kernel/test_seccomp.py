"""A child whose calls are told of, and who is left alone otherwise."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: pytest has threads, and an init has none.
SCRIPT = """
import os, select, signal, socket, sys, time
from pytest_nsjail.kernel import seccomp
from pytest_nsjail.kernel.spawn import Call, Child
ours, theirs = socket.socketpair()
def start(body, *before, native=True):
    child = Child([
        Call("no privileges", "prctl", (38, 1, 0, 0, 0)), *before, *seccomp.calls(theirs.fileno()),
        Call("null", "close", (0,), may_fail=True), Call("null", "openat", (0, b"/dev/null", os.O_RDWR)),
        Call("execute", "execve", (b"/usr/bin/python3", (b"python3", b"-c", body.encode()), (b"LC_ALL=C.UTF-8",))),
    ])
    child.bear(0, native=native)
    return child
def listener():
    return seccomp.Listener(socket.recv_fds(ours, 1, 1)[1][0])
def heard(listener):
    poll, seen = select.poll(), []
    poll.register(listener.fd, select.POLLIN)
    while poll.poll()[0][1] & select.POLLIN:
        if told := listener.hear():
            seen.append(told)
            listener.go_on(told)
    return seen
def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
"""


def _run(body: str) -> str:
    ran = subprocess.run([sys.executable, "-c", SCRIPT + body], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


CALLS = """
body = '''
import socket
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
with socket.socket() as client:
    client.connect(server.getsockname())
    client.sendall(b"not told of")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"told", ("127.0.0.1", 9))
    sender.sendmsg([b"not told"], [], 0, ("127.0.0.1", 9))
'''
child = start(body, native=NATIVE)
seen = [told for told in heard(listener()) if told.length == 16]
print([(told.connects, told.thread == child.pid) for told in seen], end(child))
"""


def test_what_is_told_of():
    for native in ("True", "False"):
        assert _run(CALLS.replace("NATIVE", native)) == "[(True, True), (False, True)] 0\n"


def test_a_childs_children_and_threads_are_told_of_as_well():
    assert _run("""
body = '''
import os, socket, threading
def go():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", 9))
thread = threading.Thread(target=go)
thread.start()
thread.join()
if os.fork() == 0:
    go()
    os._exit(0)
os.wait()
'''
child = start(body)
print(len({told.thread for told in heard(listener()) if told.length == 16} - {child.pid}), end(child))
""") == "2 0\n"


def test_one_that_is_killed_while_it_waits_is_waited_for_by_nobody():
    assert _run("""
child = start('import socket; socket.socket().connect(("127.0.0.1", 9))')
told_by = listener()
poll = select.poll()
poll.register(told_by.fd, select.POLLIN)
while True:
    poll.poll()
    told = told_by.hear()
    if told.length == 16:
        break
    told_by.go_on(told)
os.kill(child.pid, signal.SIGKILL)
print(end(child))
told_by.go_on(told)
print(poll.poll()[0][1] == select.POLLHUP)
""") == "-9\nTrue\n"


def test_once_it_is_heard_no_signal_ends_a_call():
    assert _run("""
child = start('''
import ctypes, signal, socket, struct, sys
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.01)
libc = ctypes.CDLL(None, use_errno=True)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sys.exit(ctypes.get_errno() if libc.connect(sock.fileno(), struct.pack("=HH12x", 2, 9), 16) else 0)
''')
told_by = listener()
while (told := told_by.hear()).length != 16:
    told_by.go_on(told)
time.sleep(0.2)
told_by.go_on(told)
print(end(child))
""") == "0\n"


def test_two_observers_are_one_too_many_and_the_program_runs_on():
    assert _run("""
first = start('''
import os, sys
sys.path.insert(0, os.getcwd())
''' + 'import subprocess, sys; sys.exit(subprocess.run([%r, "-c", %r], cwd=%r).returncode)' % (sys.executable, '''
from pytest_nsjail.kernel import seccomp
from pytest_nsjail.kernel.spawn import Call, Child
import os, socket
ours, theirs = socket.socketpair()
child = Child([*seccomp.calls(theirs.fileno()), Call("execute", "execve", (b"/bin/true", (b"true",), ()))])
child.bear(0)
theirs.close()
print(os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]), os.strerror(-child.result("seccomp")), ours.recv(1), child.failure())
''', os.getcwd()))
heard(listener())
print(end(first))
""") == "0 Device or resource busy b'' None\n0\n"


def test_a_kernel_that_has_it_says_so():
    assert _run("print(seccomp.refusal())") == "0\n"
    assert _run("import errno\nseccomp._FLAGS |= 1 << 30\nprint(seccomp.refusal() == errno.EINVAL)") == "True\n"


def test_anothers_descriptor():
    assert _run("""
child = os.fork()
if child == 0:
    time.sleep(60)
made = seccomp.borrow(child, ours.fileno())
os.write(made, b"hello")
print(theirs.recv(9))
os.kill(child, 9)
""") == "b'hello'\n"

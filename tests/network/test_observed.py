"""Who listens, who is connected, and who tried to reach what is not there."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_nsjail.errors import NotReady, SpecError, Unsupported
from pytest_nsjail.network.observed import Attempt, Connection, Listener, attempts
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.jail import Jail
from pytest_nsjail.spec.dependency import Text
from pytest_nsjail.spec.ready import Log

from .conftest import until

Serve = Callable[..., Jail]

SERVERS = """
import os, socket, time
def server(family, address, kind=socket.SOCK_STREAM):
    made = socket.socket(family, kind)
    made.bind(address)
    if kind != socket.SOCK_DGRAM:
        made.listen()
    return made
kept = [
    server(socket.AF_INET, ('127.0.0.1', 80)), server(socket.AF_INET6, ('::', 443)), server(socket.AF_INET, ('0.0.0.0', 53), socket.SOCK_DGRAM),
    server(socket.AF_UNIX, '/tmp/s'), server(socket.AF_UNIX, chr(0) + 'name', socket.SOCK_SEQPACKET), server(socket.AF_UNIX, '/tmp/log', socket.SOCK_DGRAM),
]
unbound = socket.socket(), socket.socketpair(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
"""
WAIT = "print('ready', flush=True); time.sleep(60)\n"
TRY = """
import errno, socket, sys, time
def attempt(kind, address, send=False):
    with socket.socket(socket.AF_INET6 if ':' in address[0] else socket.AF_INET, kind) as sock:
        try:
            sock.sendto(b'x', address) if send else sock.connect(address)
        except OSError as error:
            print(errno.errorcode[error.errno])
        else:
            print('went')
tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
"""


def listed(found: tuple[Listener, ...]) -> list[tuple[object, ...]]:
    return [(one.protocol, one.address, one.port, one.path, one.process and one.process.pid) for one in found]


def tried(found: tuple[Attempt, ...]) -> list[tuple[object, ...]]:
    return [(one.protocol, one.address, one.port, errno.errorcode[one.errno], one.count, one.process.pid) for one in found]


def test_listeners(serve: Serve):
    jail = serve(SERVERS + WAIT)
    assert listed(jail.listeners()) == [
        ("tcp", "127.0.0.1", 80, "", 2), ("tcp", "::", 443, "", 2), ("udp", "0.0.0.0", 53, "", 2),
        ("unix", "", 0, "/tmp/log", 2), ("unix", "", 0, "/tmp/s", 2), ("unix", "", 0, "@name", 2),
    ]
    process = jail.listeners()[0].process
    assert process == jail.processes()[0]
    assert process
    assert process.argv[:2] == ("python", "-u")
    assert os.stat(f"/proc/{process.host_pid}")
    jail.stop()
    assert jail.listeners() == ()
    assert jail.connections() == ()


def test_a_listener_of_several_processes_is_the_first_ones_and_one_of_the_tests_nobodys(serve: Serve):
    script = "import os, socket, time; s = socket.create_server(('127.0.0.1', 80))\nif os.fork() == 0:\n    time.sleep(60)\nelse:\n    "
    jail = serve(script + WAIT)
    with jail.listen(5432, host="127.0.0.1"):
        assert listed(jail.listeners()) == [("tcp", "127.0.0.1", 80, "", 2), ("tcp", "127.0.0.1", 5432, "", None)]
        assert str(jail.listeners()[1]) == "tcp 127.0.0.1:5432, nobody's in the jail"


def test_an_activated_port_is_the_programs(serve: Serve):
    jail = serve(f"import time; {WAIT}", activate=[8080])
    assert listed(jail.listeners()) == [("tcp", "::", 8080, "", 2)]


def test_connections(serve: Serve):
    jail = serve(SERVERS + "client = socket.create_connection(('127.0.0.1', 80)); accepted, _ = kept[0].accept()\n"
                 "unbound[2].connect(('127.0.0.1', 53)); s = socket.socket(socket.AF_UNIX); s.connect('/tmp/s'); a, _ = kept[3].accept()\n" + WAIT)
    with jail.dial(443, host="::1"):
        found = jail.connections()

    def about(one: Connection) -> tuple[object, ...]:
        # The kernel's choice of a port is as good as any.
        own, peer = (port if port < 1024 else 0 for port in (one.port, one.peer_port))
        return one.protocol, one.address, own, one.peer_address, peer, one.path, one.process and one.process.pid

    assert sorted(map(about, found), key=repr) == sorted([
        ("tcp", "127.0.0.1", 0, "127.0.0.1", 80, "", 2), ("tcp", "127.0.0.1", 80, "127.0.0.1", 0, "", 2),
        # One end is the test's, and the other is nobody's until it is accepted.
        ("tcp", "::1", 0, "::1", 443, "", None), ("tcp", "::1", 443, "::1", 0, "", None),
        ("udp", "127.0.0.1", 0, "127.0.0.1", 53, "", 2),
        ("unix", "", 0, "", 0, "/tmp/s", 2), ("unix", "", 0, "", 0, "/tmp/s", 2),
    ], key=repr)
    first = next(one for one in found if one.port == 80)
    assert str(first).startswith(f"tcp 127.0.0.1:80 to 127.0.0.1:{first.peer_port}, process 2 (python -u -c ")


# What is not there


@pytest.mark.parametrize(("call", "said", "seen"), [
    ("attempt(tcp, ('127.0.0.1', 5432))", "ECONNREFUSED", ("tcp", "127.0.0.1", 5432, "ECONNREFUSED")),
    ("attempt(tcp, ('127.9.9.9', 5432))", "ECONNREFUSED", ("tcp", "127.9.9.9", 5432, "ECONNREFUSED")),
    ("attempt(tcp, ('0.0.0.0', 5432))", "ECONNREFUSED", ("tcp", "127.0.0.1", 5432, "ECONNREFUSED")),
    ("attempt(tcp, ('::1', 5432))", "ECONNREFUSED", ("tcp", "::1", 5432, "ECONNREFUSED")),
    ("attempt(tcp, ('::', 5432))", "ECONNREFUSED", ("tcp", "::1", 5432, "ECONNREFUSED")),
    ("attempt(tcp, ('::ffff:127.0.0.1', 5432))", "ECONNREFUSED", ("tcp", "127.0.0.1", 5432, "ECONNREFUSED")),
    ("attempt(tcp, ('1.1.1.1', 443))", "ENETUNREACH", ("tcp", "1.1.1.1", 443, "ENETUNREACH")),
    ("attempt(tcp, ('2001:db8::1', 443))", "ENETUNREACH", ("tcp", "2001:db8::1", 443, "ENETUNREACH")),
    ("attempt(udp, ('127.0.0.1', 8125), send=True)", "went", ("udp", "127.0.0.1", 8125, "ECONNREFUSED")),
    ("attempt(udp, ('::1', 8125), send=True)", "went", ("udp", "::1", 8125, "ECONNREFUSED")),
    ("attempt(udp, ('8.8.8.8', 53), send=True)", "ENETUNREACH", ("udp", "8.8.8.8", 53, "ENETUNREACH")),
    ("attempt(udp, ('8.8.8.8', 53))", "ENETUNREACH", ("udp", "8.8.8.8", 53, "ENETUNREACH")),
    ("attempt(udp, ('127.0.0.1', 53))", "went", ("udp", "127.0.0.1", 53, "ECONNREFUSED")),
])
@pytest.mark.parametrize("user", ["root", "nodeuser"])
def test_an_attempt_gets_what_it_would_get_and_is_told(runtime: Runtime, box: Image, call: str, said: str, seen: tuple[object, ...], user: str):
    result = runtime.run(["python", "-c", TRY + call], image=box, observe=True, user=user)
    assert result.stdout == f"{said}\n"
    assert tried(result.refused) == [(*seen, 1, 2)]
    assert result.refused[0].process.argv == ("python", "-c", TRY + call)


@pytest.mark.parametrize("call", [
    "s = socket.create_server(('127.0.0.1', 80)); attempt(tcp, ('127.0.0.1', 80))",
    "s = socket.create_server(('', 80)); attempt(tcp, ('127.0.0.7', 80))",
    "s = socket.create_server(('', 80), family=socket.AF_INET6, dualstack_ipv6=True); attempt(tcp, ('127.0.0.1', 80)); attempt(tcp, ('::1', 80))",
    "s = socket.socket(type=udp); s.bind(('', 53)); attempt(udp, ('127.0.0.1', 53), send=True); attempt(udp, ('127.0.0.1', 53))",
    "s = socket.socket(socket.AF_INET6, udp); s.bind(('', 53)); attempt(udp, ('127.0.0.1', 53), send=True); attempt(udp, ('::1', 53), send=True)",
    "attempt(udp, ('127.0.0.1', 9999))",
    "socket.getaddrinfo('localhost', 80)",
    "s = socket.socket(); s.bind(('127.0.0.1', 80)); s.listen()\ntry: socket.socket(socket.AF_UNIX).connect('/absent')\nexcept OSError: pass",
    "socket.socket(type=udp).connect_ex(('239.0.0.1', 5353))",
])
def test_what_is_there_is_no_attempt(runtime: Runtime, box: Image, call: str):
    result = runtime.run(["python", "-c", TRY + call], image=box, observe=True)
    assert result.ok, result.report()
    assert tried(result.refused) == []


def test_attempts_of_a_server_that_runs(serve: Serve):
    script = TRY + textwrap.dedent("""
        import os
        for _ in range(3): attempt(tcp, ('127.0.0.1', 5432))
        if os.fork() == 0:
            attempt(tcp, ('127.0.0.1', 5432))
            os._exit(0)
        os.wait()
        print('ready', flush=True)
        time.sleep(60)
    """)
    jail = serve(script, observe=True)
    assert tried(jail.refused) == [("tcp", "127.0.0.1", 5432, "ECONNREFUSED", 3, 2), ("tcp", "127.0.0.1", 5432, "ECONNREFUSED", 1, 3)]
    alive, ended = jail.refused
    assert alive.process == jail.processes()[0]
    assert ended.process.host_pid == 0
    assert str(alive).startswith("tcp 127.0.0.1:5432: Connection refused, 3 times, process 2 (python -u -c ")
    # What is executed in it belongs to it.
    assert not jail.run(["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 6379))"]).ok
    assert tried(jail.refused)[2:] == [("tcp", "127.0.0.1", 6379, "ECONNREFUSED", 1, 4)]
    result = jail.stop()
    assert tried(result.refused) == tried(jail.refused)
    assert len(result.refused) == 3
    assert "not there: tcp 127.0.0.1:5432: Connection refused, 3 times, process 2" in result.report()


def test_a_thread_is_its_process(runtime: Runtime, box: Image):
    call = "import threading; t = threading.Thread(target=attempt, args=(tcp, ('127.0.0.1', 5432))); t.start(); t.join()"
    assert tried(runtime.run(["python", "-c", TRY + call], image=box, observe=True).refused) == [("tcp", "127.0.0.1", 5432, "ECONNREFUSED", 1, 2)]


def test_a_program_that_tries_everything_fills_nothing(runtime: Runtime, box: Image):
    call = "for port in range(1, 3001): socket.socket().connect_ex(('127.0.0.1', port))"
    result = runtime.run(["python", "-c", TRY + call], image=box, observe=True)
    assert result.ok
    assert [one.port for one in result.refused] == list(range(1, 1001))


def test_many_who_connect_at_once_are_none_of_them_kept_waiting(runtime: Runtime, box: Image):
    script = textwrap.dedent("""
        import os, socket, threading
        server = socket.create_server(('127.0.0.1', 80), backlog=1024)
        def serve():
            while True: server.accept()[0].close()
        threading.Thread(target=serve, daemon=True).start()
        def go():
            for _ in range(50):
                with socket.create_connection(('127.0.0.1', 80)) as sock: assert sock.recv(1) == b''
        threads = [threading.Thread(target=go) for _ in range(20)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print('done', flush=True)
        # Not by the interpreter's own end: a thread that still runs then asks for a library that is not in the image.
        os._exit(0)
    """)
    result = runtime.run(["python", "-c", script], image=box, observe=True, timeout=60)
    assert (result.stdout, result.stderr) == ("done\n", "")
    assert tried(result.refused) == []


def test_a_program_that_is_stopped_while_it_tries(serve: Serve):
    jail = serve(TRY + "print('ready', flush=True)\nwhile True: socket.socket().connect_ex(('127.0.0.1', 5432))", observe=True)
    until(lambda: any(one.count > 10 for one in jail.refused))
    began = time.monotonic()
    result = jail.stop()
    assert time.monotonic() - began < 5
    assert result.refused[0].count > 10


def test_a_program_has_no_descriptor_of_it(runtime: Runtime, box: Image):
    for stdin in (None, "x"):
        script = "import os\nfor fd in range(9):\n  try: print(os.readlink(f'/proc/self/fd/{fd}'))\n  except OSError: pass"
        result = runtime.run(["python", "-c", script], image=box, observe=True, stdin=stdin)
        assert len(result.stdout.splitlines()) == 3
        assert "seccomp" not in result.stdout
        assert result.stdout.count("pipe:") == (2 if stdin is None else 3)


def test_a_program_that_cannot_start_is_told_as_ever(runtime: Runtime):
    result = runtime.run(["/bin/text"], image=runtime.image(Text("/bin/text", "no program", mode=0o755)), observe=True)
    assert str(result.status).startswith("not started: /bin/text cannot start")


def test_who_is_not_observed(serve: Serve, runtime: Runtime, box: Image):
    jail = serve("import time\nprint([line for line in open('/proc/self/status') if line.startswith('Seccomp:')][0].split()[1])\n" + WAIT)
    assert jail.stdout == "0\nready\n"
    with pytest.raises(SpecError, match="observe=True"):
        _ = jail.refused
    with pytest.raises(SpecError, match="observe=True"):
        _ = runtime.run(["python", "-c", ""], image=box).refused
    with pytest.raises(SpecError, match="Write True or False"):
        runtime.run(["python", "-c", ""], image=box, observe=1)  # type: ignore[arg-type]


def test_in_the_hosts_network(runtime: Runtime, box: Image):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = runtime.run(["python", "-c", TRY + f"attempt(tcp, ('127.0.0.1', {port}))"], image=box, observe=True, network="host")
    assert tried(result.refused) == [("tcp", "127.0.0.1", port, "ECONNREFUSED", 1, 2)]


NESTED = """
import os, select, socket, sys
from pytest_nsjail.kernel import seccomp
from pytest_nsjail.kernel.spawn import Call, Child
ours, theirs = socket.socketpair()
inner = '''
import sys, tempfile
from pytest_nsjail.errors import Unsupported
from pytest_nsjail.runtime import Runtime
with tempfile.TemporaryDirectory() as store, Runtime(store) as runtime:
    result = runtime.run(["/bin/true"], observe=True)
    print(result.status)
    try:
        result.refused
    except Unsupported as error:
        print(error)
'''
env = tuple(f"{name}={value}".encode() for name, value in os.environ.items())
argv = tuple(os.fsencode(one) for one in (sys.executable, "-c", inner))
child = Child([Call("", "prctl", (38, 1, 0, 0, 0)), *seccomp.calls(theirs.fileno()), Call("", "execve", (argv[0], argv, env))])
child.bear(0)
listener = seccomp.Listener(socket.recv_fds(ours, 1, 1)[1][0])
poll = select.poll()
poll.register(listener.fd, select.POLLIN)
while poll.poll()[0][1] & select.POLLIN:
    if told := listener.hear():
        listener.go_on(told)
os.waitpid(child.pid, 0)
"""


def test_under_another_supervisor_it_is_said_that_nothing_is_seen():
    ran = subprocess.run([sys.executable, "-c", NESTED], capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    status, _, why = ran.stdout.partition("\n")
    assert status == "exited with 0", ran.stderr
    assert "not seen here (seccomp_unotify(2): Device or resource busy)" in why


@pytest.mark.parametrize(("number", "words"), [(errno.EINVAL, "Linux 5.19"), (errno.EOPNOTSUPP, "modprobe"), (errno.ENOSYS, "Function not implemented")])
def test_a_host_that_does_not_let_it_be_seen(number: int, words: str):
    with pytest.raises(Unsupported, match=words):
        attempts({"off": number, "attempts": []}, lambda pid, argv: pytest.fail("nobody"))


def test_reports_of_a_jail_that_failed_name_what_was_missing(runtime: Runtime, box: Image):
    with pytest.raises(NotReady, match=r"not there: tcp 127\.0\.0\.1:5432: Connection refused, process 2"):
        runtime.start(["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 5432))"], image=box, observe=True, ready=Log("never"))

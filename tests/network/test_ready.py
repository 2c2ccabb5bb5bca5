"""When a program counts as started, and what is said where it does not."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_nsjail.errors import NotReady, SpecError
from pytest_nsjail.jail.status import Exited, Signaled
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.jail import Jail
from pytest_nsjail.runtime.result import Result
from pytest_nsjail.spec.dependency import Elf, Text, Users
from pytest_nsjail.spec.ready import All, Any, Exec, Http, Listening, Log, Notify, Ready, Unix

from .conftest import PYTHON, library, until

LONG = "import time; time.sleep(60)"
SERVER = """
import socket, time
family, address = {family}, {address!r}
server = socket.socket(family)
time.sleep({first})
server.bind(address)
server.listen()
print('listening', flush=True)
while True:
    client, _ = server.accept()
    print('somebody came', flush=True)
"""
HTTP = """
import http.server, itertools
turn = itertools.count()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        {answer}
        print(self.path, self.headers['Host'], flush=True)
    def answer(self, status):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b'x' * 100_000)
    def log_message(self, *_): pass
http.server.HTTPServer.address_family = {family}
http.server.HTTPServer(({address!r}, {port}), Handler).serve_forever()
"""
NOTIFY = """
import os, socket, time
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = os.environ['NOTIFY_SOCKET'].replace('@', chr(0))
def say(*lines): sock.sendto(chr(10).join(lines).encode(), name)
"""


def server(address: object = ("127.0.0.1", 80), family: str = "socket.AF_INET", first: float = 0.0) -> str:
    return SERVER.format(family=family, address=address, first=first)


def web(answer: str = "self.answer(200)", *, port: int = 80, address: str = "127.0.0.1", family: str = "2") -> str:
    return HTTP.format(answer=answer, port=port, address=address, family=family)


class Started:
    """Starts programs, and knows what became of them."""

    def __init__(self, runtime: Runtime, image: Image, results: list[Result]) -> None:
        self._runtime, self._image = runtime, image
        self.results = results

    @contextmanager
    def __call__(self, script: str, ready: Ready, **options: object) -> Iterator[Jail]:
        with self._runtime.start(["python", "-u", "-c", script], image=self._image, ready=ready, **options) as jail:  # type: ignore[arg-type]
            yield jail

    def not_ready(self, script: str, ready: Ready, **options: object) -> NotReady:
        """The error of a start that ends in one."""
        del self.results[:]
        with pytest.raises(NotReady) as caught, self(script, ready, **options):
            pass
        assert len(self.results) == 1, "a program was not told of, or more than it"
        return caught.value


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    results: list[Result] = []
    with Runtime(str(tmp_path_factory.mktemp("store")), finished=lambda spec, result: results.append(result)) as runtime:
        image = runtime.image(
            Elf(PYTHON, to="/bin/python"), library(), Users(nodeuser=500), Text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
            env={"PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        yield Started(runtime, image, results)


# A program that ends


@pytest.mark.parametrize("condition", [
    Listening(80), Http(80), Log("never"), Notify(), Unix("/tmp/s"), Exec(["python", "-c", "raise SystemExit(1)"]), All(Listening(80), Log("x")),
    Any(Listening(80), Exec(["python", "-c", LONG])), lambda jail: False,
], ids=lambda condition: type(condition).__name__)
def test_a_program_that_dies_before_it_is_ready_ends_the_wait_at_once(start: Started, condition: Ready):
    began = time.monotonic()
    error = start.not_ready("import time; print('beginning'); time.sleep(0.3); 1 / 0", condition)
    assert time.monotonic() - began < 5
    assert error.status == Exited(1)
    assert error.condition is condition
    for words in ("exited with 1 before it was ready", "beginning", "ZeroDivisionError: division by zero"):
        assert words in str(error)
    assert start.results[0].status == Exited(1)


def test_one_that_exits_with_0_is_not_ready_either(start: Started):
    error = start.not_ready("print('all done')", Listening(80))
    assert str(error).startswith("exited with 0 before it was ready: Listening(80)\n")
    assert "all done" in str(error)


def test_one_that_is_killed(start: Started):
    assert start.not_ready("import os; os.kill(os.getpid(), 9)", Listening(80)).status == Signaled(signal.SIGKILL)


def test_one_that_never_ran(start: Started, runtime: Runtime):
    image = runtime.image(Text("/bin/text", "no program", mode=0o755))
    # Again and again: its end may come before anything was asked of its jail, or in the midst of it.
    for _ in range(20):
        with pytest.raises(NotReady, match=r"not started: .*before it was ready: Listening\(80\)"):
            runtime.start(["/bin/text"], image=image, ready=Listening(80))


def test_what_was_true_before_the_end_counts(start: Started):
    for _ in range(5):
        with start("print('the only word')", Log("^the only word$")) as jail:
            assert jail.wait().ok


# Ports


@pytest.mark.parametrize(("family", "address", "condition"), [
    ("socket.AF_INET", ("127.0.0.1", 80), Listening(80)),
    ("socket.AF_INET", ("0.0.0.0", 80), Listening(80)),
    ("socket.AF_INET", ("127.0.0.1", 80), Listening(80, host="127.0.0.1")),
    ("socket.AF_INET6", ("::1", 80), Listening(80)),
    ("socket.AF_INET6", ("::1", 80), Listening(80, host="::1")),
    ("socket.AF_INET6", ("::", 80), Listening(80, host="127.0.0.1")),
    ("socket.AF_INET", ("127.0.0.5", 80), Listening(80, host="127.0.0.5")),
])
def test_listening(start: Started, family: str, address: object, condition: Listening):
    with start(server(address, family, first=0.2), condition) as jail:
        # Nobody is connected to meanwhile.
        jail.dial(80, host=condition.host).close()
        jail.until(Log("^somebody came$"))
        assert jail.stdout == "listening\nsomebody came\n"


def test_a_timeout_says_what_listens_and_where(start: Started):
    script = "import threading, time; print('up', flush=True)\n" + server(("127.0.0.1", 8081)).replace("while True", "time.sleep(60)\nwhile True")
    error = start.not_ready(script, Listening(8080, timeout=1))
    assert "after 1 s nobody listens on port 8080 at 127.0.0.1 or ::1" in str(error)
    assert re.search(r"listens: tcp 127\.0\.0\.1:8081, process 2 \(python -u -c .*\)\n", str(error))
    assert "--- stdout\nup\nlistening" in str(error)
    assert error.status is None


def test_a_timeout_says_what_runs_where_nobody_listens(start: Started):
    error = start.not_ready(LONG, Listening(8080, timeout=0.2))
    assert "nobody in the jail listens on anything\nruns: process 2 (python -u -c 'import time; time.sleep(60)')" in str(error)


@pytest.mark.parametrize(("family", "address", "host"), [("socket.AF_INET6", "::1", "127.0.0.1"), ("socket.AF_INET", "127.0.0.5", None)])
def test_a_port_that_is_listened_on_at_another_address(start: Started, family: str, address: str, host: str | None):
    began = time.monotonic()
    error = start.not_ready(server((address, 80), family), Listening(80, host=host))
    assert time.monotonic() - began < 5
    assert f"port 80 is listened on at {address} alone" in str(error)
    assert f"write Listening(80, host={address!r})" in str(error)


@pytest.mark.parametrize(("script", "condition"), [(server(("127.0.0.1", 8081)), Listening(8080)), (web(port=8081), Http(8080))], ids=["accept", "select"])
def test_a_server_that_has_settled_on_another_port(start: Started, script: str, condition: Ready):
    began = time.monotonic()
    error = start.not_ready(script, condition)
    assert 3 < time.monotonic() - began < 15
    assert "nobody listens on port 8080, but on 8081, and for 3 s everybody in the jail has been asleep" in str(error)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has slept for a second has settled."""
    monkeypatch.setattr("pytest_nsjail.runtime.listening._SETTLED_PORT", 1.0)


BUSY = {
    "waits for a time to come": "time.sleep(2)",
    "computes": "until = time.monotonic() + 2\nwhile time.monotonic() < until: pass",
    "looks again and again": "import select\nfor _ in range(20): select.select([], [], [], 0.1)",
    "has a child that sleeps": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(2)'])",
    "starts others": "import subprocess\nfor _ in range(8): subprocess.run(['python', '-c', 'import select; select.select([0], [], [], 0.3)'])",
    "listens more and more": "import select; all = []\nfor _ in range(4): all.append(socket.create_server(('', 0))); select.select([first], [], [], 0.5)",
}


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("what", BUSY)
def test_nobody_is_taken_for_settled_who(start: Started, what: str):
    script = f"import socket, time\nfirst = socket.socket(); first.bind(('127.0.0.1', 9090)); first.listen()\n{BUSY[what]}\n{server()}"
    with start(script, Listening(80)) as jail:
        jail.until(Log("listening", timeout=3))


@pytest.mark.parametrize(("options", "condition"), [
    ({}, Listening(80, patient=True)), ({}, Http(80, patient=True)), ({"publish": {9090: 0, 80: 0}}, Listening(80)), ({}, All(Listening(9090), Listening(80))),
], ids=["patient", "patient http", "declared", "asked for"])
@pytest.mark.usefixtures("soon")
def test_a_port_that_is_expected_alarms_nobody(start: Started, options: dict[str, object], condition: Ready):
    script = f"import select, socket\nfirst = socket.socket(); first.bind(('127.0.0.1', 9090)); first.listen()\nselect.select([first], [], [], 2)\n{web()}"
    with start(script, condition, **options) as jail:
        jail.dial(80).close()


@pytest.mark.usefixtures("soon")
def test_a_server_of_the_tests_is_nobodys_mistake(start: Started):
    def listens(jail: Jail) -> bool:
        servers.append(jail.listen(5432))
        return True

    servers: list[socket.socket] = []
    error = start.not_ready(LONG, All(listens, Listening(80, timeout=2)))
    assert "after 2 s nobody listens on port 80" in str(error)
    assert "listens: tcp [::]:5432, nobody's in the jail" in str(error)
    servers[0].close()


# Output


def test_log(start: Started):
    with start("import sys, time; time.sleep(0.1); print('port 8080 is open', file=sys.stderr); time.sleep(60)", Log(r"port (\d+) is open$")) as jail:
        assert jail.stderr == "port 8080 is open\n"


def test_the_end_of_what_was_written_so_far_ends_no_line(start: Started):
    words = "ready", " soon", " enough", "\n", "ready", "\n"
    with start(f"import time\nfor word in {words!r}: print(word, end='', flush=True); time.sleep(0.1)\n{LONG}", Log("^ready$")) as jail:
        assert jail.stdout == "ready soon enough\nready\n"


def test_a_prompt_is_no_line_and_is_found(start: Started):
    with start(f"print('login: ', end='', flush=True); {LONG}", Log("login: ")):
        pass


def test_a_line_in_several_pieces_and_several_lines(start: Started):
    pieces = b"gr", "ö".encode()[:1], "ö".encode()[1:], "ße".encode(), b" 1", b" end", b"\n", b"next"
    with start(f"import os, time\nfor piece in {pieces!r}: os.write(1, piece); time.sleep(0.05)\n{LONG}", Log("größe 1 end\nnext")):
        pass


def test_a_line_after_a_lot_of_others(start: Started):
    script = "import sys\nfor number in range(60_000): print('a line that says nothing', number)\nprint('ready', flush=True)\n"
    with start(script + LONG, Log("^ready$")) as jail:
        assert len(jail.stdout) > 1 << 20


def test_a_log_that_does_not_come(start: Started):
    error = start.not_ready(f"print('hello', flush=True); {LONG}", Log("ready", timeout=0.3))
    assert "Log('ready', timeout=0.3): after 0.3 s nothing that it wrote matches (6 bytes on stdout, 0 on stderr)" in str(error)
    assert "--- stdout\nhello" in str(error)


# HTTP


@pytest.mark.parametrize(("address", "family", "host"), [("127.0.0.1", "2", "127.0.0.1:80"), ("::1", "10", "[::1]:80")])
def test_http_asks_once_where_the_answer_is_right(start: Started, address: str, family: str, host: str):
    with start(web(address=address, family=family), Http(80, "/health?x=1")) as jail:
        jail.until(Log("health"))
        time.sleep(0.05)
        assert jail.stdout == f"/health?x=1 {host}\n"
        assert jail.stderr == ""


def test_http_asks_again_until_the_answer_is_right(start: Started):
    with start(web("self.answer(503 if next(turn) < 3 else 204)"), Http(80, status=204)) as jail:
        jail.until(Log("(/.*\n){4}"))


@pytest.mark.parametrize(("answer", "words"), [
    ("self.answer(404)", "GET / was not answered with 200: it answered 404 Not Found"),
    ("self.wfile.write(b'* OK IMAP4 ready' + bytes([10]))", "it answered what is no HTTP: b'* OK IMAP4 ready"),
    ("pass", "it hung up without an answer"),
    ("import time; time.sleep(60)", "the server has not answered GET /"),
    ("import time; time.sleep(60) if next(turn) else self.answer(404)", "it answered 404 Not Found, and then it has not answered"),
])
def test_http_that_is_answered_otherwise(start: Started, answer: str, words: str):
    assert words in str(start.not_ready(web(answer), Http(80, timeout=1.5)))


def test_an_answer_that_never_ends(start: Started):
    endless = "self.send_response(200); self.end_headers(); self.wfile.write(b'data: x'); import time; time.sleep(60)"
    began = time.monotonic()
    with start(web(endless), Http(80)):
        assert time.monotonic() - began < 10


# sd_notify


@pytest.mark.parametrize("user", ["root", "nodeuser"])
def test_notify(start: Started, user: str):
    with start(NOTIFY + "say('STATUS=half', 'READY=0'); time.sleep(0.2); say('READY=1', 'STATUS=whole'); print('said', flush=True); time.sleep(60)", Notify(),
               user=user) as jail:
        jail.until(Log("said"))
        jail.until(Notify(timeout=0.1))
        assert jail.listeners() == ()


def test_a_program_that_says_more_than_the_kernel_queues_is_not_kept_waiting(start: Started):
    script = NOTIFY + "say('READY=1')\nfor turn in range(5000): say('WATCHDOG=1')\nprint('done', flush=True); time.sleep(60)"
    with start(script, Notify()) as jail:
        jail.until(Log("done"))


def test_descriptors_that_come_along_stay_with_nobody(start: Started):
    script = NOTIFY + """
import array
for turn in range(2000):
    one, other = os.pipe()
    sock.sendmsg([b'BARRIER=1'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [other]))], 0, name)
    os.close(other)
    assert os.read(one, 1) == b''
    os.close(one)
say('READY=1'); time.sleep(60)
"""
    with start(script, Notify()):
        pass


def test_the_last_status_is_told(start: Started):
    error = start.not_ready(NOTIFY + f"say('STATUS=loading 3 of 7'); {LONG}", Notify(timeout=0.5))
    assert "Notify(timeout=0.5): after 0.5 s it has not said READY=1, and its last word was STATUS=loading 3 of 7" in str(error)


def test_who_was_started_without_it_is_not_waited_for(start: Started):
    with start(LONG, lambda jail: True) as jail, pytest.raises(SpecError, match=r"NOTIFY_SOCKET.*Write ready=Notify\(\)"):
        jail.until(Notify())
    with start(f"import os; print(sorted(os.environ), flush=True); {LONG}", Log("^.*]$")) as jail:
        assert "PATH" in jail.stdout
        assert "NOTIFY_SOCKET" not in jail.stdout


# Unix sockets


@pytest.mark.parametrize(("bound", "asked"), [
    ("/tmp/s", "/tmp/s"), ("s", "/tmp/s"), ("/tmp/link/s", "/tmp/s"), ("/tmp/s", "/tmp/link/s"), ("\0name", "@name"), ("\0with space/@", "@with space/@"),
])
@pytest.mark.parametrize("user", ["root", "nodeuser"])
def test_unix(start: Started, bound: str, asked: str, user: str):
    script = "import os; os.chdir('/tmp'); os.symlink('/tmp', 'link')\n" + server(bound, "socket.AF_UNIX", first=0.1)
    with start(script, Unix(asked), user=user) as jail:
        jail.dial(asked).close()
        jail.until(Log("^somebody came$"))
        assert jail.stdout == "listening\nsomebody came\n"


def test_unix_datagrams(start: Started):
    with start(f"import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('/tmp/log'); {LONG}", Unix("/tmp/log")) as jail:
        jail.dial("/tmp/log", udp=True).close()


@pytest.mark.parametrize(("script", "asked", "words"), [
    (LONG, "/tmp/s", "/tmp/s: No such file or directory"),
    (f"import socket; s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s'); {LONG}", "/tmp/s", "nobody listens on it"),
    (f"open('/tmp/s', 'w'); {LONG}", "/tmp/s", "nobody listens on it"),
    (f"import socket; s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s'); s.listen(); s.close(); {LONG}", "/tmp/s", "nobody listens on it"),
    (f"import socket; s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + 'name'); {LONG}", "@name", "nobody has that name"),
])
def test_a_unix_socket_that_nobody_listens_on(start: Started, script: str, asked: str, words: str):
    assert words in str(start.not_ready(script, Unix(asked, timeout=0.5)))


# Commands and functions


def test_exec(start: Started):
    # What the main program writes, the command finds.
    with start(f"import time; time.sleep(0.3); open('/tmp/made', 'w'); {LONG}", Exec(["python", "-c", "open('/tmp/made')"])) as jail:
        assert [process.pid for process in jail.processes()] == [2]
    assert [result.argv[2] for result in start.results[-1:]] == ["-c"]


def test_a_command_that_never_succeeds_is_told_with_what_it_said(start: Started):
    error = start.not_ready(LONG, Exec(["python", "-c", "raise SystemExit('no such database')"], timeout=1))
    assert "after 1 s the command has not succeeded; the last time:\n$ python -c" in str(error)
    assert "no such database" in str(error)


def test_a_command_that_hangs(start: Started):
    began = time.monotonic()
    error = start.not_ready(LONG, Exec(["python", "-c", LONG], timeout=0.5))
    assert time.monotonic() - began < 5
    assert "the command still ran" in str(error) or "timed out after" in str(error)


def test_a_command_that_is_not_there_is_an_error_at_once(start: Started):
    began = time.monotonic()
    assert "Declare it: Elf('/usr/bin/pg_isready')" in str(start.not_ready(LONG, Exec(["pg_isready"])))
    assert time.monotonic() - began < 5


def test_a_command_that_runs_when_another_condition_is_true_is_ended(start: Started):
    with start(f"import time; time.sleep(0.3); print('up', flush=True); {LONG}", Any(Log("up"), Exec(["python", "-c", LONG]))) as jail:
        assert [process.pid for process in jail.processes()] == [2]


def test_a_function_of_the_jail(start: Started):
    seen: list[Jail] = []

    def answered(jail: Jail) -> bool:
        seen.append(jail)
        with jail.dial(80):
            return True

    with start(server(first=0.2), answered) as jail:
        assert len(seen) > 1
        assert set(seen) == {jail}


def test_a_functions_own_mistake_is_its_own(start: Started):
    del start.results[:]
    with pytest.raises(ZeroDivisionError), start(LONG, lambda jail: 1 / 0):
        pass
    assert len(start.results) == 1


# Several


def test_all_may_be_true_one_after_the_other(start: Started):
    script = "import socket, time\nfirst = socket.socket(); first.bind(('127.0.0.1', 81)); first.listen()\ntime.sleep(0.2); first.close(); print('gone')\n"
    with start(script + server(), All(Listening(81), Log("gone"), Listening(80))):
        pass


def test_the_first_of_all_whose_time_is_over_is_told(start: Started):
    began = time.monotonic()
    error = start.not_ready(server(), All(Listening(80), Log("never", timeout=0.5), Listening(81)))
    assert time.monotonic() - began < 3
    assert "not ready: Log('never', timeout=0.5): after" in str(error)


def test_any(start: Started):
    with start(server(), Any(Log("never"), Listening(80))):
        pass
    error = start.not_ready(server(), Any(Log("never", timeout=0.4), All(Listening(81, timeout=0.2), Log("listening"))))
    assert "Listening(81, timeout=0.2): after 0.2 s nobody listens on port 81" in str(error)
    assert "Log('never', timeout=0.4): after 0.4 s nothing" in str(error)


# Later


def test_until(start: Started):
    script = "import sys\nfor line in sys.stdin: print('checkpoint complete', flush=True); break\nimport time; time.sleep(60)"
    with start(script, lambda jail: True, stdin="go\n") as jail:
        jail.until(Log("checkpoint complete"))
        with pytest.raises(NotReady, match=r"after .* nothing that it wrote matches"):
            jail.until(Log("another", timeout=0.2))
        assert not jail.ended
        threading.Timer(0.2, jail.signal).start()
        with pytest.raises(NotReady, match="killed by SIGTERM before it was ready"):
            jail.until(Listening(80))
        jail.until(Log("checkpoint complete"))
        with pytest.raises(SpecError, match="is no condition"):
            jail.until(80)  # type: ignore[arg-type]


def test_a_program_that_ends_another_way_ends_the_wait_in_every_thread(start: Started):
    said: list[object] = []

    def wait(jail: Jail) -> None:
        try:
            jail.until(Listening(80))
        except Exception as error:
            said.append(error)

    with start(LONG, lambda jail: True) as jail:
        threads = [threading.Thread(target=wait, args=(jail,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        jail.signal(signal.SIGKILL)
        for thread in threads:
            thread.join(20)
        assert [type(one) for one in said] == [NotReady] * 3


def test_waiting_leaves_no_descriptor(start: Started):
    conditions = All(Listening(80), Http(80), Log("/"), Notify(), Unix("@x"), Exec(["python", "-c", ""]))
    script = f"import threading\n{NOTIFY}\nx = socket.socket(socket.AF_UNIX); x.bind(chr(0) + 'x'); x.listen(); say('READY=1')\n{web()}"
    counts = []
    for _ in range(3):
        with start(script, conditions):
            pass
        with pytest.raises(NotReady), start(script, Any(Listening(81, timeout=0.1), Http(81, timeout=0.1), Unix("@y", timeout=0.1))):
            pass
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[1] == counts[2]


# Who waits for nobody


def test_ready_is_not_for_a_program_that_is_waited_for(start: Started, runtime: Runtime):
    with pytest.raises(SpecError, match=r"nsjail_run\(\['/bin/true'\]\).*nsjail_start\(\.\.\., ready=\.\.\.\)"):
        runtime.run(["/bin/true"], ready=Listening(80))


def test_ctrl_c_during_the_wait_ends_the_jail(start: Started):
    del start.results[:]

    def interrupt(jail: Jail) -> bool:
        raise KeyboardInterrupt

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt), start(LONG, lambda jail: pids.append(jail.host_pid) or interrupt(jail)):
        pass
    until(lambda: not os.path.exists(f"/proc/{pids[0]}"))


def test_in_the_hosts_network_only_the_jails_own_counts(start: Started):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"nobody listens on port {port}" in str(start.not_ready(LONG, Listening(port, timeout=0.5), network="host"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with start(server(("127.0.0.1", port)), Listening(port), network="host") as jail:
        assert [(one.protocol, one.port) for one in jail.listeners()] == [("tcp", port)]
    name = f"nsjail-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(f"\0{name}")
        taken.listen()
        assert "nobody has that name" in str(start.not_ready(LONG, Unix(f"@{name}", timeout=0.5), network="host"))
    with start(NOTIFY + f"say('READY=1'); {LONG}", Notify(), network="host"):
        pass



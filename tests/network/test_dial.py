"""Sockets that live in a jail's network, in the hands of a test."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Callable

import pytest

from pytest_nsjail.errors import JailEnded, SetupError, SpecError
from pytest_nsjail.jail.status import Exited
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.jail import Jail

Serve = Callable[..., Jail]

ECHO = """
import socket, sys, threading
family, address, kind = {family}, {address!r}, socket.SOCK_STREAM
server = socket.socket(family, kind)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(address)
server.listen(64)
print('ready')
def serve(client):
    with client:
        while data := client.recv(65536):
            client.sendall(data)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
UDP = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.1', 53))
print('ready')
while True:
    data, peer = server.recvfrom(65536)
    server.sendto(data.upper(), peer)
"""
HTTP = """
import http.server, functools
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = f'you asked for {self.path}'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 80), Handler)
print('ready')
server.serve_forever()
"""


def echo(family: str = "socket.AF_INET", address: object = ("127.0.0.1", 7)) -> str:
    return ECHO.format(family=family, address=address)


def said(sock: socket.socket, data: bytes) -> bytes:
    with sock:
        sock.sendall(data)
        return sock.recv(100)


def test_a_dialled_socket_is_a_socket_of_the_jails_network(serve: Serve):
    jail = serve(echo())
    assert said(jail.dial(7), b"hello") == b"hello"
    with jail.dial(7) as sock:
        assert sock.getpeername() == ("127.0.0.1", 7)
        # include/uapi/asm-generic/socket.h: SO_NETNS_COOKIE, Linux 5.14
        with socket.socket() as ours:
            assert sock.getsockopt(socket.SOL_SOCKET, 71, 8) != ours.getsockopt(socket.SOL_SOCKET, 71, 8)


def test_what_listens_at_the_other_loopback_address_alone_is_found(serve: Serve):
    jail = serve(echo("socket.AF_INET6", ("::1", 7)))
    assert said(jail.dial(7), b"six") == b"six"
    assert said(jail.dial(7, host="::1"), b"six") == b"six"
    with pytest.raises(ConnectionRefusedError):
        jail.dial(7, host="127.0.0.1")


def test_datagrams(serve: Serve):
    assert said(serve(UDP).dial(53, udp=True), b"hello") == b"HELLO"


@pytest.mark.parametrize("path", ["/tmp/echo.sock", "@echo"])
def test_unix_sockets(serve: Serve, path: str):
    address = path.replace("@", "\0")
    assert said(serve(echo("socket.AF_UNIX", address)).dial(path), b"unix") == b"unix"


def test_a_path_is_looked_up_inside(serve: Serve, tmp_path):
    outside = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(outside)
        server.listen()
        jail = serve(f"import os; os.symlink({outside!r}, '/tmp/link'); print('ready'); import time; time.sleep(60)")
        for path in (outside, "/tmp/link"):
            with pytest.raises(FileNotFoundError):
                jail.dial(path)


def test_who_has_ended_is_told_how(runtime: Runtime, box: Image):
    with runtime.start(["python", "-c", "raise SystemExit(5)"], image=box) as jail:
        while not jail.ended:
            time.sleep(0.01)
        # Before anybody has waited for it, and after that.
        for _ in range(2):
            with pytest.raises(JailEnded, match=r"cannot reach a jail that has ended: python -c .*: exited with 5\. Its last words are its logs"):
                jail.dial(7)
            assert jail.wait().status == Exited(5)


def test_nobody_listens(serve: Serve):
    jail = serve(echo())
    with pytest.raises(ConnectionRefusedError, match=r"nobody listens on 8 in the jail; who does: tcp 127.0.0.1:7, process 2 ") as refused:
        jail.dial(8)
    assert refused.value.errno == errno.ECONNREFUSED
    with pytest.raises(KeyError, match=r"7 is not published; write publish=\{7: 0\}"):
        jail.ports[7]
    with pytest.raises(FileNotFoundError):
        jail.dial("/tmp/none.sock")
    with pytest.raises(ConnectionRefusedError):
        jail.dial("@none")


def test_a_full_queue_keeps_nobody_but_the_caller_waiting(serve: Serve):
    jail = serve("import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s'); s.listen(0); print('ready'); time.sleep(60)")
    first = [jail.dial("/tmp/s")]
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        first += [jail.dial("/tmp/s", timeout=0.2) for _ in range(3)]
    assert 0.2 <= time.monotonic() - began < 5
    assert [process.pid for process in jail.processes()] == [2]
    for sock in first:
        sock.close()


def test_a_server_of_the_tests_inside_the_jail(runtime: Runtime, box: Image):
    script = "import socket, sys; sys.stdin.readline(); s = socket.create_connection(('127.0.0.1', 5432)); s.sendall(b'from inside'); print(s.recv(99))"
    with runtime.start(["python", "-c", f"import time; time.sleep(0.2)\n{script}"], image=box, stdin="go\n") as jail, jail.listen(5432) as server:
        client, _ = server.accept()
        with client:
            assert client.recv(99) == b"from inside"
            client.sendall(b"from the test")
        assert jail.wait().stdout == "b'from the test'\n"


def test_a_server_of_the_tests_at_a_path_inside(runtime: Runtime, box: Image):
    script = "import os, socket, time\nwhile not os.path.exists('/tmp/x'): time.sleep(0.01)\ns = socket.socket(socket.AF_UNIX)\ns.connect('/tmp/x')\n"
    script += "s.sendall(b'hi')"
    with runtime.start(["python", "-c", script], image=box, user="nodeuser") as jail, jail.listen("/tmp/x") as server:
        client, _ = server.accept()
        with client:
            assert client.recv(9) == b"hi"
        result = jail.wait()
        assert result.ok, result.report()


def test_a_port_that_the_program_has_is_in_use(serve: Serve):
    with pytest.raises(OSError, match="in use") as caught:
        serve(echo()).listen(7)
    assert caught.value.errno == errno.EADDRINUSE


def test_code_that_opens_its_own_sockets(serve: Serve):
    jail = serve(HTTP)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(jail.url(80), timeout=5)
    before = socket.socket
    with jail.sockets():
        with urllib.request.urlopen(jail.url(80, "/a?b"), timeout=5) as answer:
            assert answer.read() == b"you asked for /a?b"
        connection = http.client.HTTPConnection("localhost", 80, timeout=5)
        connection.request("GET", "/c")
        assert connection.getresponse().read() == b"you asked for /c"
        connection.close()
        one, other = socket.socketpair()
        with one, other:
            assert isinstance(one, socket.socket)
            assert isinstance(one, before)
    assert socket.socket is before


def test_asyncio_inside(serve: Serve):
    import asyncio

    jail = serve(echo())

    async def asked() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", 7)
        writer.write(b"async")
        answer = await reader.read(5)
        writer.close()
        await writer.wait_closed()
        return answer

    with jail.sockets():
        assert asyncio.run(asked()) == b"async"


def test_two_jails_with_one_port(serve: Serve):
    one, other = serve(echo()), serve(echo())
    with one.dial(7) as first, other.dial(7) as second:
        first.sendall(b"1")
        second.sendall(b"2")
        assert (first.recv(1), second.recv(1)) == (b"1", b"2")


def test_threads_may_dial_at_once(serve: Serve):
    jail = serve(echo())
    wrong: list[bytes] = []

    def ask(number: int) -> None:
        for turn in range(25):
            data = b"%d %d" % (number, turn)
            if (got := said(jail.dial(7), data)) != data:
                wrong.append(got)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_dialling_leaves_no_descriptor(serve: Serve):
    jail = serve(echo())
    said(jail.dial(7), b"first")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        said(jail.dial(7), b"x")
        with pytest.raises(OSError, match="refused"):
            jail.dial(8)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_jail_that_has_ended(serve: Serve):
    jail = serve(echo())
    sock = jail.dial(7)
    jail.stop()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    with sock, pytest.raises((ConnectionResetError, BrokenPipeError, AssertionError)):
        assert sock.recv(1)
    with pytest.raises(SetupError, match="has ended"):
        jail.dial(7)


@pytest.mark.parametrize(("target", "words"), [
    (0, "1 to 65535"), (65536, "1 to 65535"), (True, "1 to 65535"), ("relative", "no port, no path"), ("", "no port"), ("/a/../b", r"\.\."), ("/a\0b", "NUL"),
])
def test_a_target_that_cannot_be_meant(serve: Serve, target: object, words: str):
    jail = serve(echo())
    with pytest.raises(SpecError, match=words):
        jail.dial(target)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="in figures"):
        jail.dial(7, host="localhost")


ACTIVATED = """
import os, socket
names = os.environ['LISTEN_FDNAMES'].split(':')
assert os.environ['LISTEN_PID'] == str(os.getpid()) and int(os.environ['LISTEN_FDS']) == len(names)
servers = [socket.socket(fileno=3 + number) for number in range(len(names))]
print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1], 'ready')
for server in servers:
    client, _ = server.accept()
    client.sendall(str(server.getsockname()[1]).encode())
    client.close()
"""


def test_socket_activation(serve: Serve):
    jail = serve(ACTIVATED, activate=[8080, 80])
    assert jail.stdout == "[0, 1, 2, 3, 4] ready\n"
    assert said(jail.dial(8080), b"") == b"8080"
    assert said(jail.dial(80, host="::1"), b"") == b"80"
    assert jail.wait().ok


def test_nobody_who_dials_an_activated_port_is_too_early(runtime: Runtime, box: Image):
    for _ in range(3):
        with runtime.start(["python", "-c", f"import time; time.sleep(0.1)\n{ACTIVATED}"], image=box, activate=[99]) as jail:
            assert said(jail.dial(99), b"") == b"99"
            assert jail.wait().ok

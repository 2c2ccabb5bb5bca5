"""Published ports of real jails."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_nsjail.errors import SetupError
from pytest_nsjail.jail.status import NotStarted
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.jail import Jail
from pytest_nsjail.spec.dependency import Text

Serve = Callable[..., Jail]

ECHO = """
import resource, socket, threading
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
server = socket.create_server(({host!r}, 7), family=socket.AF_INET6 if ':' in {host!r} else socket.AF_INET, backlog=1024)
print('ready')
def serve(client):
    with client:
        while data := client.recv(1 << 20):
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


def echo(host: str = "127.0.0.1") -> str:
    return ECHO.format(host=host)


def connect(jail: Jail, inner: int = 7) -> socket.socket:
    return socket.create_connection(jail.ports[inner], timeout=20)


def said(sock: socket.socket, data: bytes) -> bytes:
    with sock:
        sock.sendall(data)
        return sock.recv(100)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_client_of_the_host_reaches_the_server(serve: Serve, host: str):
    jail = serve(echo(host), publish={7: 0})
    assert jail.ports[7][0] == "127.0.0.1"
    assert said(connect(jail), b"hello") == b"hello"


def test_the_port_that_was_asked_for_at_the_address_that_was_asked_for(serve: Serve):
    with socket.socket() as sock:
        sock.bind(("127.0.0.3", 0))
        port = sock.getsockname()[1]
    for _ in range(3):
        jail = serve(echo(), publish={7: ("127.0.0.3", port), 8: ("::1", 0)})
        assert jail.ports[7] == ("127.0.0.3", port)
        assert jail.ports[8][0] == "::1"
        with connect(jail) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            # With a connection of before just over, the port is free again as soon as its jail has stopped.
            jail.stop()


def test_whoever_is_early_waits(runtime: Runtime, box: Image):
    with runtime.start(["python", "-c", f"import time; time.sleep(0.3)\n{echo()}"], image=box, publish={7: 0}) as jail:
        assert said(connect(jail), b"early") == b"early"
        (client,) = jail.published[7].clients
        assert client.received == client.sent == 5
        assert client.seconds > 0.1


def test_datagrams(serve: Serve):
    jail = serve(UDP, publish={"53/udp": 0})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.sendto(b"hello", jail.ports["53/udp"])
        assert sock.recvfrom(100) == (b"HELLO", jail.ports["53/udp"])
        (client,) = jail.published["53/udp"].clients
        assert (client.peer, client.received, client.sent, client.end) == (("127.0.0.1", sock.getsockname()[1]), 5, 5, None)


def test_what_its_clients_did_is_known_when_it_has_ended(serve: Serve):
    jail = serve(echo(), publish={7: 0, 9: 0})
    with connect(jail) as sock:
        own = sock.getsockname()
        sock.sendall(b"12345")
        assert sock.recv(5) == b"12345"
        with connect(jail, 9):
            jail.stop()
    (client,) = jail.published[7].clients
    assert (client.peer, client.received, client.sent, client.end) == (own, 5, 5, "closed")
    assert [seen.end for seen in jail.published[9].clients] == ["the jail ended"]


def test_two_jails_with_one_port_inside(serve: Serve):
    one, other = serve(echo(), publish={7: 0}), serve(echo(), publish={7: 0})
    assert one.ports[7] != other.ports[7]
    assert said(connect(one), b"1") == said(connect(other), b"1") == b"1"


def test_a_gibibyte(serve: Serve):
    jail = serve(echo(), publish={7: 0})
    piece = os.urandom(1 << 20)
    expected, found = hashlib.blake2b(), hashlib.blake2b()
    with connect(jail) as sock:
        sender = threading.Thread(target=lambda: [sock.sendall(piece) for _ in range(1024)] and sock.shutdown(socket.SHUT_WR))
        sender.start()
        buffer, count = bytearray(1 << 20), 0
        while got := sock.recv_into(buffer):
            found.update(memoryview(buffer)[:got])
            count += got
        sender.join()
    for _ in range(1024):
        expected.update(piece)
    assert (count, found.digest()) == (1 << 30, expected.digest())
    assert jail.published[7].clients[0].received == 1 << 30


def test_a_thousand_clients_at_once(serve: Serve, many: None):
    jail = serve(echo(), publish={7: 0})
    clients = [connect(jail) for _ in range(1000)]
    for number, client in enumerate(clients):
        client.sendall(b"%4d" % number)
    for number, client in enumerate(clients):
        assert client.recv(4) == b"%4d" % number
        client.close()


TALKER = """
import socket
server = socket.create_server(('127.0.0.1', 7))
while True:
    client, _ = server.accept()
    client.sendall(bytes(1 << 30))
"""


@pytest.mark.parametrize("end", ["stop", "close", "kill the init"])
def test_a_jail_that_ends_in_mid_transfer_keeps_nobody_waiting(runtime: Runtime, box: Image, end: str):
    with runtime.start(["python", "-c", TALKER], image=box, publish={7: 0}) as jail, connect(jail) as busy, connect(jail) as waiting:
        assert busy.recv(1 << 16)
        if end == "kill the init":
            parent = Path(f"/proc/{jail.host_pid}/stat").read_text().rpartition(")")[2].split()[1]
            os.kill(int(parent), signal.SIGKILL)
            with pytest.raises(SetupError):
                jail.wait()
        else:
            getattr(jail, end)()
        for sock in (busy, waiting):
            try:
                while sock.recv(1 << 20):
                    pass
            except ConnectionResetError:
                pass
        with pytest.raises(ConnectionRefusedError):
            connect(jail)


def test_a_port_that_is_taken(runtime: Runtime, box: Image):
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("0.0.0.0", 0))
        for inner, sock in ((7, taken), ("53/udp", datagrams)):
            port = sock.getsockname()[1]
            words = rf"publish port {inner} at 127\.0\.0\.1:{port} .*in use.*Process {os.getpid()} \(.+\) has it; publish={{{inner!r}: 0}}"
            with pytest.raises(SetupError, match=words):
                runtime.start(["python"], image=box, publish={9: 0, inner: port})


def test_a_port_that_another_jail_has(serve: Serve):
    port = serve(echo(), publish={7: 0}).ports[7][1]
    with pytest.raises(SetupError, match=r"nsjail-relay, for a jail that publishes it\) has it"):
        serve(echo(), publish={7: port})


def test_an_address_that_is_not_the_hosts(runtime: Runtime, box: Image):
    with pytest.raises(SetupError, match=r"198\.51\.100\.1:0 .*none of this host's"):
        runtime.start(["python"], image=box, publish={9: ("198.51.100.1", 0)})


def test_a_program_that_cannot_start_publishes_nothing(runtime: Runtime):
    image = runtime.image(Text("/odd", "neither\n", mode=0o755))
    for _ in range(5):
        with runtime.start(["/odd"], image=image, publish={7: 0}) as jail:
            with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
                said(connect(jail), b"x")
            assert isinstance(jail.wait().status, NotStarted)
            with pytest.raises(ConnectionRefusedError):
                connect(jail)


def test_starting_and_stopping_leaves_no_descriptor(serve: Serve, runtime: Runtime):
    def used() -> None:
        jail = serve(echo(), publish={7: 0, "7/udp": 0})
        assert said(connect(jail), b"x") == b"x"
        jail.stop()

    # Twice, for then a spare jail is expected to be wanted again.
    for _ in range(3):
        used()
    relay = runtime._programs._publisher.relay()[0]._process.pid
    before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), relay)]
    for _ in range(5):
        used()
    assert [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), relay)] == before


def test_a_fork_of_pytests_has_a_relay_of_its_own(serve: Serve, runtime: Runtime, box: Image):
    jail = serve(echo(), publish={7: 0})
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(SetupError, match="this is a fork of it"):
                assert jail.published[7].clients
            with runtime.start(["python", "-c", echo()], image=box, publish={7: 0}) as own:
                assert said(connect(own), b"x") == b"x"
                assert len(own.published[7].clients) == 1
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert said(connect(jail), b"x") == b"x"
    assert len(jail.published[7].clients) == 1


TESTS = """
import os, socket, sys, pytest

SERVER = '''
{echo}
'''

def image(nsjail_image):
    from pathlib import Path
    from pytest_nsjail import Elf, Tree
    library = Path("/usr/bin/python3").resolve().name
    return nsjail_image(Elf("/usr/bin/python3", to="/bin/python"), Tree(f"/usr/lib/{{library}}", exclude=("test", "__pycache__")), env={{"PATH": "/bin"}})

{mark}
def test_it(nsjail_image, nsjail_start):
    jail = nsjail_start(["python", "-u", "-c", SERVER], image=image(nsjail_image), publish={{7: 0}})
    with socket.create_connection(jail.ports[7], timeout=20) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    {rest}
"""


def session(tmp_path: Path, mark: str = "", rest: str = "") -> subprocess.Popen[str]:
    (tmp_path / "test_it.py").write_text(TESTS.format(echo=echo(), mark=mark, rest=rest))
    options = ["-q", "-s", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/base", f"--nsjail-store={tmp_path}/store"]
    return subprocess.Popen([sys.executable, "-m", "pytest", *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_in_an_isolated_test_that_has_a_network_of_its_own(tmp_path: Path):
    with session(tmp_path, "@pytest.mark.isolated") as pytest_session:
        out, _ = pytest_session.communicate(timeout=120)
    assert "1 passed" in out, out


def test_a_pytest_that_is_killed_leaves_no_relay_and_no_port(tmp_path: Path, eventually):
    rest = "print('address', jail.ports[7][1], flush=True); import time; time.sleep(60)"
    with session(tmp_path, rest=rest) as pytest_session:
        assert pytest_session.stdout is not None
        port = next(int(line.split()[-1]) for line in pytest_session.stdout if "address" in line)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            pytest_session.kill()
            assert sock.recv(1) == b""

            def free() -> bool:
                with socket.socket() as other:
                    return other.connect_ex(("127.0.0.1", port)) != 0

            eventually(free)

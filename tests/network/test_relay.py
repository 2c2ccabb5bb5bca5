"""The relay by itself, between plain sockets: its init is a thread that makes sockets of this very network."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_nsjail.errors import SetupError
from pytest_nsjail.kernel import wire
from pytest_nsjail.network.bound import bind
from pytest_nsjail.spec.publish import Publish

CONFTEST = Path(__file__).with_name("conftest.py")
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """It listens."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as one:
        one.settimeout(20)
        yield one


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """It is bound, and does not listen."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(20)
        yield one


def port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def accepted(server: socket.socket) -> socket.socket:
    sock, _ = server.accept()
    sock.settimeout(20)
    return sock


def whole(sock: socket.socket) -> bytes:
    """All until the end."""
    parts = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def relay_of(publisher) -> int:
    return publisher.relay()[0]._process.pid


def test_what_both_say_arrives(publish, server):
    with publish(port(server)).connect() as client, accepted(server) as inside:
        for turn in range(50):
            client.sendall(b"ask %d" % turn)
            assert inside.recv(100) == b"ask %d" % turn
            inside.sendall(b"answer %d" % turn)
            assert client.recv(100) == b"answer %d" % turn


def test_a_server_may_speak_first(publish, server):
    with publish(port(server)).connect() as client, accepted(server) as inside:
        inside.sendall(b"220 ready")
        assert client.recv(100) == b"220 ready"


def test_a_client_waits_until_somebody_listens(publish, silent, eventually):
    jail = publish(port(silent))
    with jail.connect() as client:
        client.sendall(b"early")
        eventually(lambda: [seen.end for seen in jail.clients] == [None])
        silent.listen()
        with accepted(silent) as inside:
            assert inside.recv(100) == b"early"
            inside.sendall(b"welcome")
            assert client.recv(100) == b"welcome"
        with jail.connect(), accepted(silent):
            pass
    silent.settimeout(0.05)
    with pytest.raises(TimeoutError):
        silent.accept()


@pytest.mark.parametrize("turn", range(3))
def test_many_who_wait_are_all_served_in_their_order_and_nobody_else(publish, silent, turn, eventually):
    jail = publish(port(silent))
    clients = []
    for number in range(200):
        clients.append(jail.connect())
        clients[-1].sendall(b"%3d" % number)
        if number == 70 * turn:
            silent.listen(256)
    for number, client in enumerate(clients):
        with accepted(silent) as inside, client:
            assert inside.recv(3) == b"%3d" % number
    eventually(lambda: [seen.end for seen in jail.clients] == ["closed"] * 200)
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.accept()


@pytest.mark.parametrize("way", ["closed", "reset"])
@pytest.mark.parametrize("asked", [b"", b"GET / HTTP/1.1"])
def test_who_leaves_while_he_waits_is_seen_by_no_server(publish, silent, way, asked, eventually):
    jail = publish(port(silent))
    with jail.connect() as first:
        first.sendall(asked)
        if way == "reset":
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    eventually(lambda: [seen.end for seen in jail.clients] == ["left"])
    with jail.connect() as second:
        silent.listen()
        with accepted(silent) as inside:
            second.sendall(b"second")
            assert inside.recv(100) == b"second"


def test_who_closes_his_half_and_then_leaves_while_he_waits_is_seen_by_no_server(publish, silent, eventually):
    jail = publish(port(silent))
    with jail.connect() as first:
        first.sendall(b"question")
        first.shutdown(socket.SHUT_WR)
        eventually(lambda: len(jail.clients) == 1)
    with jail.connect() as second:
        silent.listen()
        with accepted(silent) as inside:
            second.sendall(b"second")
            assert inside.recv(100) == b"second"
    assert jail.clients[0].end == "left"


def test_who_asked_and_closed_his_half_while_he_waited_gets_the_answer(publish, silent):
    with publish(port(silent)).connect() as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        silent.listen()
        with accepted(silent) as inside:
            assert whole(inside) == b"question"
            inside.sendall(b"answer")
        assert whole(client) == b"answer"


@pytest.mark.parametrize("first", ["client", "server"])
def test_one_half_closed_is_one_half_closed(publish, server, first, eventually):
    jail = publish(port(server))
    with jail.connect() as client, accepted(server) as inside:
        one, other = (client, inside) if first == "client" else (inside, client)
        one.sendall(b"all I have to say")
        one.shutdown(socket.SHUT_WR)
        assert whole(other) == b"all I have to say"
        for turn in range(3):
            other.sendall(b"more %d" % turn)
            assert one.recv(100) == b"more %d" % turn
        assert [seen.end for seen in jail.clients] == [None]
        other.shutdown(socket.SHUT_WR)
        assert whole(one) == b""
        eventually(lambda: [(seen.end, {seen.received, seen.sent}) for seen in jail.clients] == [("closed", {17, 18})])


def test_a_client_that_breaks_off_is_broken_off_inside(publish, server, eventually):
    jail = publish(port(server))
    client = jail.connect()
    with accepted(server) as inside:
        client.sendall(b"before")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        assert inside.recv(100) == b"before"
        with pytest.raises(ConnectionResetError):
            inside.recv(100)
    eventually(lambda: [seen.end for seen in jail.clients] == ["reset by the client"])


def test_a_server_that_breaks_off_is_heard_to_the_end(publish, server, eventually):
    jail = publish(port(server))
    with jail.connect() as client:
        inside = accepted(server)
        client.sendall(b"?")
        assert inside.recv(1) == b"?"
        inside.sendall(b"last words")
        inside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        inside.close()
        assert client.recv(10) == b"last words"
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        eventually(lambda: [(seen.end, seen.sent) for seen in jail.clients] == [("reset by the server", 10)])


def test_a_server_that_is_broken_off_while_it_does_not_read(publish, server, eventually):
    """What the client said to it is stuck, and nothing but the reset tells."""
    jail = publish(port(server))
    with jail.connect() as client:
        inside = accepted(server)
        fill(client)
        inside.close()  # with unread data: a reset
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            client.sendall(bytes(64 << 20))
    eventually(lambda: [seen.end for seen in jail.clients] == ["reset by the server"])


def fill(sock: socket.socket) -> int:
    """Send as much as is taken, until nothing is for a while."""
    sent, poll = 0, select.poll()
    poll.register(sock, select.POLLOUT)
    before = sock.gettimeout()
    sock.setblocking(False)
    while poll.poll(300):
        with contextlib.suppress(BlockingIOError):
            sent += sock.send(bytes(1 << 16))
    sock.settimeout(before)
    return sent


@pytest.mark.parametrize("slow", ["client", "server"])
def test_who_does_not_read_is_waited_for(publish, server, slow):
    jail = publish(port(server))
    with jail.connect() as client, accepted(server) as inside:
        reader, writer = (client, inside) if slow == "client" else (inside, client)
        sent = fill(writer)
        # Two sockets' buffers on each side (tcp_rmem, tcp_wmem: 6 and 4 MiB by default), and one pipe.
        assert sent < 32 << 20
        other = bytes(range(256))
        reader.sendall(other)
        assert writer.recv(1000) == other
        writer.shutdown(socket.SHUT_WR)
        assert len(whole(reader)) == sent


def test_no_byte_is_lost_or_changed(publish, server):
    """Both directions at once, in pieces of all sizes."""
    content = [random.Random(seed).randbytes(24 << 20) for seed in (1, 2)]
    got: list[bytes] = [b"", b""]

    def send(sock: socket.socket, data: bytes) -> None:
        sizes, at = random.Random(3), 0
        while at < len(data):
            at += sock.send(data[at:at + sizes.choice([1, 100, 5000, 70_000, 1 << 20])])
        sock.shutdown(socket.SHUT_WR)

    def receive(sock: socket.socket, place: int) -> None:
        got[place] = whole(sock)

    with publish(port(server)).connect() as client, accepted(server) as inside:
        threads = [threading.Thread(target=send, args=(client, content[0])), threading.Thread(target=send, args=(inside, content[1])),
                   threading.Thread(target=receive, args=(inside, 0)), threading.Thread(target=receive, args=(client, 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [hashlib.sha256(data).digest() for data in got] == [hashlib.sha256(data).digest() for data in content]


def test_two_small_pieces_do_not_wait_for_an_acknowledgement(publish, server):
    with publish(port(server)).connect() as client, accepted(server) as inside:
        # These two do not wait, so that only the relay may.
        for sock in (client, inside):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        took = []
        for _ in range(20):
            began = time.perf_counter()
            for one, other in ((client, inside), (inside, client)):
                one.sendall(b"a")
                one.sendall(b"b")
                assert (other.recv(1), other.recv(1)) == (b"a", b"b")
            took.append(time.perf_counter() - began)
    # A delayed acknowledgement is 40 ms late.
    assert sorted(took)[10] < 0.02


def test_a_server_at_the_other_loopback_address_alone(publish):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        server.settimeout(20)
        with publish(port(server)).connect() as client, accepted(server) as inside:
            client.sendall(b"six")
            assert inside.recv(3) == b"six"


def test_a_thousand_at_once(publish, server, many, eventually):
    jail = publish(port(server))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(jail.connect()) for _ in range(1000)]
        peers = [client.getsockname() for client in clients]
        inside = [stack.enter_context(accepted(server)) for _ in range(1000)]
        for number, client in enumerate(clients):
            client.sendall(b"%4d" % number)
        for sock in inside:
            sock.sendall(sock.recv(4))
        for number, client in enumerate(clients):
            assert client.recv(4) == b"%4d" % number
        assert [seen.end for seen in jail.clients] == [None] * 1000
    eventually(lambda: [seen.end for seen in jail.clients] == ["closed"] * 1000)
    assert [seen.peer for seen in jail.clients] == peers


def test_when_the_jail_ends_who_waits_is_broken_off_and_nobody_listens(publish, silent, eventually):
    jail = publish(port(silent))
    with jail.connect() as client:
        client.sendall(b"anybody?")
        eventually(lambda: len(jail.clients) == 1)
        jail.ends()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        jail.connect()
    assert [(seen.end, seen.received) for seen in jail.clients] == [("the jail ended", 0)]


def test_a_jail_that_ended_before_its_ports_were_served(publisher, server):
    relay, number = publisher.relay()
    channel, init = wire.pair()
    init.close()
    (bound,) = bind([Publish(port(server))])
    with channel, bound.sock, socket.create_connection(bound.address, timeout=20) as client:
        relay.say({"do": "open", "jail": number}, channel.fileno())
        for _ in range(2):  # the relay has heard of the end when it answers for the second time
            assert relay.ask({"do": "clients", "jail": number}) == []
        relay.say({"do": "publish", "jail": number, "port": port(server)}, bound.sock.fileno())
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_when_the_jail_ends_what_its_server_said_to_the_end_arrives(publish, server, eventually):
    jail = publish(port(server))
    content = random.Random(1).randbytes(12 << 20)
    with jail.connect() as client:
        inside = accepted(server)
        sender = threading.Thread(target=inside.sendall, args=(content,))
        sender.start()
        received = bytearray()
        while sender.is_alive() and len(received) < len(content):
            received += client.recv(1 << 16)
        inside.close()
        jail.ends()
        assert bytes(received) + whole(client) == content
    eventually(lambda: [(seen.end, seen.sent) for seen in jail.clients] == [("closed", len(content))])


def test_when_the_jail_ends_a_socket_that_outlives_it_is_broken_off(publish, server):
    jail = publish(port(server))
    with jail.connect() as client, accepted(server) as inside:
        jail.ends()
        for sock in (client, inside):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert [seen.end for seen in jail.clients] == ["the jail ended"]


def test_nothing_is_left_in_the_relay(publisher, publish, server, eventually):
    def descriptors() -> list[str]:
        found = Path(f"/proc/{relay_of(publisher)}/fd")
        return sorted(os.readlink(fd).split(":")[0] for fd in found.iterdir())

    def used() -> None:
        jail = publish(port(server))
        for way in ("close", "reset", "stuck", "jail"):
            client = jail.connect()
            inside = accepted(server)
            if way == "stuck":
                fill(inside)
            elif way == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif way == "jail":
                jail.ends()
            client.close()
            inside.close()
        jail.close()

    used()
    before = descriptors()
    for _ in range(5):
        used()
    eventually(lambda: descriptors() == before)


def test_a_relay_that_has_nothing_to_do_does_nothing(publisher, publish, server, silent):
    jail, held = publish(port(server)), publish(port(silent))
    with jail.connect() as client, accepted(server) as inside, held.connect() as waiting:
        waiting.sendall(b"x")
        fill(inside)
        client.shutdown(socket.SHUT_WR)
        spent = time_of(relay_of(publisher))
        time.sleep(0.5)
        assert time_of(relay_of(publisher)) - spent < 0.1


def time_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_descriptors_clients_wait_for_their_turn(tmp_path):
    """The relay has room for a dozen."""
    script = f"""
import resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
import runpy
Relayed, Publisher = (lambda names: (names["Relayed"], names["Publisher"]))(runpy.run_path({str(CONFTEST)!r}))
server = socket.create_server(("127.0.0.1", 0), backlog=64)
publisher = Publisher()
jail = Relayed(publisher, server.getsockname()[1])
clients = [socket.create_connection(jail.address, timeout=20) for _ in range(30)]
for client in clients:
    client.sendall(b"x")
time.sleep(0.3)
assert 8 < len(jail.clients) < 20, len(jail.clients)
spent = open(f"/proc/{{publisher.relay()[0]._process.pid}}/stat").read().rpartition(")")[2].split()
assert int(spent[11]) + int(spent[12]) < 30, spent
for client in clients:
    inside, _ = server.accept()
    with client, inside:
        inside.sendall(inside.recv(1))
        assert client.recv(1) == b"x"
jail.close()
publisher.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_lives_no_longer_than_pytest(number, eventually):
    """Though a fork of pytest's holds its socket."""
    script = f"""
import os, runpy, socket, sys, time
names = runpy.run_path({str(CONFTEST)!r})
publisher = names["Publisher"]()
jail = names["Relayed"](publisher, 9)
client = socket.create_connection(jail.address)
fork = os.fork()
if fork:
    print(publisher.relay()[0]._process.pid, fork, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        relay, fork = map(int, process.stdout.readline().split())
        try:
            eventually(lambda: Path(f"/proc/{relay}/comm").read_text() == "nsjail-relay\n")
            process.send_signal(number)
            process.wait(20)
            # Where nobody reaps who has no parent any more it stays, dead.
            eventually(lambda: not Path(f"/proc/{relay}").exists() or ") Z " in Path(f"/proc/{relay}/stat").read_text())
        finally:
            os.kill(fork, signal.SIGKILL)
            process.kill()


def test_a_relay_that_was_killed_is_replaced(publisher, publish, server, eventually):
    first = publish(port(server))
    killed = relay_of(publisher)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: relay_of(publisher) != killed)
    with publish(port(server)).connect() as client, accepted(server) as inside:
        client.sendall(b"x")
        assert inside.recv(1) == b"x"
    with pytest.raises(SetupError, match="relay of published ports is gone"):
        assert first.clients
    first.close()
    assert first.clients == ()

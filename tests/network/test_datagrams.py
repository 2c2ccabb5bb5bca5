"""Published ports of datagrams, between plain sockets."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from pytest_nsjail.network import datagrams
from pytest_nsjail.network.shared import Shared


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with udp(("127.0.0.1", 0)) as one:
        yield one


def udp(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(20)
    sock.bind(address)
    return sock


def client(jail) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(20)
    sock.connect(jail.address)
    return sock


def port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_each_datagram_arrives_as_it_was_sent(publish, server):
    sizes = [1, 0, 1400, 65507, 3]
    with client(publish(port(server), udp=True)) as one:
        for size in sizes:
            one.send(bytes([size % 251]) * size)
            data, peer = server.recvfrom(1 << 16)
            assert data == bytes([size % 251]) * size
            server.sendto(data, peer)
            assert one.recv(1 << 16) == data


def test_every_client_gets_his_own_answers(publish, server):
    jail = publish(port(server), udp=True)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(jail)) for _ in range(50)]
        for number, one in enumerate(clients):
            one.send(b"%d" % number)
        for _ in clients:
            data, peer = server.recvfrom(100)
            server.sendto(b"for " + data, peer)
        for number, one in enumerate(clients):
            assert one.recv(100) == b"for %d" % number
        assert {(seen.sent - seen.received, seen.end) for seen in jail.clients} == {(4, None)}


def test_a_server_at_the_other_loopback_address_alone(publish):
    with udp(("::1", 0)) as server, client(publish(port(server), udp=True)) as one:
        for turn in range(3):
            one.send(b"%d" % turn)
            data, peer = server.recvfrom(100)
            server.sendto(data, peer)
            assert one.recv(100) == b"%d" % turn


def test_what_is_sent_before_anybody_listens_is_lost_and_what_is_sent_later_is_not(publish, eventually):
    with udp(("127.0.0.1", 0)) as place:
        number = port(place)
    jail = publish(number, udp=True)
    with client(jail) as one:
        for _ in range(5):
            one.send(b"early")
        eventually(lambda: [(seen.received, seen.end) for seen in jail.clients] == [(0, None)])
        with udp(("127.0.0.1", number)) as server:
            one.send(b"late")
            # The last of the early ones may just be on their way.
            assert b"late" in (server.recv(100) for _ in range(6))


def test_the_one_that_was_silent_longest_makes_room(publisher, publish, server, many, eventually):
    jail = publish(port(server), udp=True)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(jail)) for _ in range(datagrams.CLIENTS + 5)]
        for turn, one in enumerate([*clients[:20], clients[0], *clients[20:]]):
            one.send(b"x")
            assert server.recv(10) == b"x", turn
        assert [index for index, seen in enumerate(jail.clients) if seen.end == "displaced"] == [1, 2, 3, 4, 5]
    relay = publisher.relay()[0]._process.pid
    jail.close()
    eventually(lambda: len(os.listdir(f"/proc/{relay}/fd")) < 30)
    assert {seen.end for seen in jail.clients} == {"displaced", "the jail ended"}


def test_when_the_jail_ends_nobody_listens(publish, server, eventually):
    jail = publish(port(server), udp=True)
    with client(jail) as one:
        one.send(b"x")
        assert server.recv(10) == b"x"
        jail.ends()
        eventually(lambda: [seen.end for seen in jail.clients] == ["the jail ended"])
        one.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            one.recv(1)


class Supply:
    """Makes sockets of this network, at once."""

    def take(self, family, kind, got) -> None:
        got(socket.socket(family, kind | socket.SOCK_NONBLOCK))


def test_a_silent_client_is_forgotten(server, monkeypatch):
    monkeypatch.setattr(datagrams, "IDLE", 0.2)
    shared = Shared()
    with udp(("127.0.0.1", 0)) as outer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two:
        address = outer.getsockname()
        ports = datagrams.Datagrams(shared, Supply(), outer, port(server))  # type: ignore[arg-type]
        for sock in (one, two):
            sock.sendto(b"x", address)
            shared.loop.turn()
        while not [told for told in ports.ledger.told() if told[-1]]:
            two.sendto(b"y", address)
            shared.loop.turn()
        assert [told[-1] for told in ports.ledger.told()] == ["idle", None]
        while None in [told[-1] for told in ports.ledger.told()]:
            shared.loop.turn()
        assert [told[-1] for told in ports.ledger.told()] == ["idle", "idle"]
        ports.close()

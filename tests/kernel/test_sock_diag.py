"""What the kernel tells of sockets, against those of this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from pytest_nsjail.errors import Unsupported
from pytest_nsjail.kernel import sock_diag
from pytest_nsjail.kernel.sock_diag import CLOSE, ESTABLISHED, LISTEN, Diag

_NETLINK_SOCK_DIAG = 4


@pytest.fixture
def diag() -> Iterator[Diag]:
    with Diag(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)) as one:
        yield one


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def server(address: str, *, only: bool = True) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only))
    made.bind((address, 0))
    made.listen()
    return made


@pytest.mark.parametrize(("address", "only", "found"), [
    ("127.0.0.1", True, ("127.0.0.1",)),
    ("0.0.0.0", True, ("127.0.0.1", "127.0.0.5")),
    ("::1", True, ("::1",)),
    ("::", True, ("::1",)),
    ("::", False, ("::1", "127.0.0.1", "127.0.0.5")),
])
def test_a_listener_is_found_where_a_connection_would_reach_it(diag: Diag, address: str, only: bool, found: tuple[str, ...]):
    with server(address, only=only) as sock:
        port = sock.getsockname()[1]
        for asked in ("127.0.0.1", "127.0.0.5", "::1"):
            assert diag.listener(asked, port) == (inode(sock) if asked in found else None)
    assert [diag.listener(asked, port) for asked in found] == [None] * len(found)


def test_a_port_that_is_bound_and_not_listened_on(diag: Diag):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert diag.listener(*sock.getsockname()) is None


def test_who_is_connected_is_no_listener(diag: Diag):
    with server("127.0.0.1") as sock, socket.create_connection(sock.getsockname()) as client:
        assert diag.listener(*client.getsockname()) is None


def test_one_end_of_a_connection_and_whether_anybody_has_it(diag: Diag):
    with server("127.0.0.1") as sock:
        client = socket.create_connection(sock.getsockname())
        with sock.accept()[0] as accepted:
            ends = *client.getsockname(), *accepted.getsockname()
            assert diag.connected(*ends) == inode(client)
            client.shutdown(socket.SHUT_WR)
            assert diag.connected(*ends) == inode(client)
            client.close()
            assert diag.connected(*ends) == 0
            assert diag.connected(*accepted.getsockname(), *ends[:2]) == inode(accepted)
        assert diag.connected("127.0.0.1", 1, "127.0.0.1", 2) is None


def test_tcp(diag: Diag):
    with server("::", only=False) as sock:
        port = sock.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            own = client.getsockname()[1]
            about = {(one.state, one.address, one.port, one.peer, one.peer_port, one.inode) for one in diag.inet(socket.IPPROTO_TCP) if port in one[3:6]}
            # Nobody has accepted yet: there is a connection, and no file.
            assert about == {
                (LISTEN, "::", port, "::", 0, inode(sock)),
                (ESTABLISHED, "127.0.0.1", own, "127.0.0.1", port, inode(client)),
                (ESTABLISHED, "127.0.0.1", port, "127.0.0.1", own, 0),
            }
            assert [one.port for one in diag.inet(socket.IPPROTO_TCP, LISTEN) if one.port == port] == [port]


def test_udp(diag: Diag):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as connected:
        bound.bind(("127.0.0.1", 0))
        connected.connect(("::1", 9))
        about = {(one.state, one.address, one.peer, one.peer_port, one.inode) for one in diag.inet(socket.IPPROTO_UDP)}
        assert (CLOSE, "127.0.0.1", "0.0.0.0", 0, inode(bound)) in about
        assert (ESTABLISHED, "::1", "::1", 9, inode(connected)) in about


def test_unix(diag: Diag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as abstract:
        named.bind("server")
        named.listen()
        abstract.bind(f"\0{tmp_path}")
        abstract.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("server")
            accepted, _ = named.accept()
            with accepted:
                known = {one.inode: one for one in diag.unix()}
                file = os.stat("server")
                assert known[inode(named)] == (socket.SOCK_STREAM, LISTEN, "server", inode(named), (file.st_ino, file.st_dev), 0)
                assert known[inode(abstract)] == (socket.SOCK_SEQPACKET, LISTEN, f"@{tmp_path}", inode(abstract), (0, 0), 0)
                assert (known[inode(client)].peer, known[inode(accepted)].peer) == (inode(accepted), inode(client))
                assert (known[inode(client)].name, known[inode(accepted)].name) == ("", "server")


def test_more_than_one_message_of_answers(diag: Diag):
    made = [server("127.0.0.1") for _ in range(400)]
    try:
        assert {inode(sock) for sock in made} <= {one.inode for one in diag.inet(socket.IPPROTO_TCP, LISTEN)}
        # What was asked before is over, whoever did not read to the end.
        assert diag.listener(*made[0].getsockname()) == inode(made[0])
    finally:
        for sock in made:
            sock.close()


def test_a_kernel_without_it_is_said(diag: Diag, monkeypatch):
    # A family that no kernel has: the answer is that of one whose module is not there.
    monkeypatch.setattr(sock_diag.socket, "AF_INET", 44)
    with pytest.raises(Unsupported, match="modprobe tcp_diag"):
        diag.inet(socket.IPPROTO_TCP)

"""What a test does to a network, and what its jails see of it. The sockets are the test's own, and live in the jails."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pytest_nsjail.errors import SpecError
from pytest_nsjail.network.network import Network
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.jail import Jail

V4, V6 = socket.AF_INET, socket.AF_INET6
Trio = tuple[Network, Jail, Jail, Jail]
# How long it is listened for what is not to come.
NEVER = 0.3


@pytest.fixture
def join(runtime: Runtime) -> Iterator[Callable[[str], Jail]]:
    with runtime.network() as net, ExitStack() as jails:

        def joined(name: str) -> Jail:
            jail = runtime.start(["/bin/busybox", "sleep", "600"], network=net, name=name)
            jails.callback(jail.stop, 0)
            return jail

        joined.net = net  # type: ignore[attr-defined]
        yield joined


@pytest.fixture
def trio(join: Callable[[str], Jail]) -> Trio:
    return join.net, join("a"), join("b"), join("c")  # type: ignore[attr-defined]


def reaches(source: Jail, target: Jail, family: int = V4, wait: float = 5.0) -> bool:
    """Whether a datagram arrives, and one comes back."""
    with target.listen(0, udp=True) as server, source.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(wait)
        server.settimeout(wait)
        client.sendto(b"ping", (target.addresses[family == V6], server.getsockname()[1]))
        try:
            data, peer = server.recvfrom(100)
            server.sendto(data, peer)
            return client.recv(100) == b"ping"
        except TimeoutError:
            return False


def connected(source: Jail, target: Jail, family: int = V4) -> tuple[socket.socket, socket.socket]:
    """The two ends of a connection from jail to jail."""
    with target.listen(0) as server, source.socket(family) as client:
        client.settimeout(10)
        client.connect((target.addresses[family == V6], server.getsockname()[1]))
        accepted, _ = server.accept()
        ends = socket.socket(fileno=client.detach()), accepted
        for sock in ends:
            sock.settimeout(10)
        return ends


@pytest.mark.parametrize("family", [V4, V6], ids=["v4", "v6"])
def test_a_partition_and_its_end(trio: Trio, family: int):
    net, a, b, c = trio
    assert reaches(a, b, family)
    net.partition({a}, {b, c})
    assert not reaches(a, b, family, NEVER)
    assert not reaches(c, a, family, NEVER)
    assert reaches(b, c, family)
    net.partition({a, "b"}, c)
    assert reaches(a, b, family)
    assert not reaches(b, c, family, NEVER)
    net.heal()
    assert all(reaches(one, other, family) for one in (a, b, c) for other in (a, b, c) if one is not other)
    assert [fault.what for fault in net.log] == ["partition: a | b, c", "partition: a, b | c", "heal"]


def test_a_connection_outlives_a_partition(trio: Trio):
    net, a, b, _ = trio
    client, server = connected(a, b)
    with client, server:
        client.sendall(b"before")
        assert server.recv(100) == b"before"
        net.isolate(b)
        client.sendall(b"meanwhile")
        server.settimeout(NEVER)
        with pytest.raises(TimeoutError):
            server.recv(100)
        net.heal()
        server.settimeout(10)
        assert server.recv(100) == b"meanwhile"
        server.sendall(b"after")
        assert client.recv(100) == b"after"


def test_nobody_new_can_connect_across_a_partition(trio: Trio):
    net, a, b, _ = trio
    net.partition([a])
    with b.listen(80), a.socket() as sock:
        sock.settimeout(NEVER)
        with pytest.raises(TimeoutError):
            sock.connect((b.address, 80))


def test_those_that_are_not_named_are_a_group_and_newcomers_join_it(trio: Trio, join: Callable[[str], Jail]):
    net, a, b, c = trio
    net.partition({c})
    d = join("d")
    assert reaches(a, b)
    assert reaches(d, a)
    assert not reaches(d, c, wait=NEVER)
    # With nobody left over, they are alone.
    net.partition({a, b}, {c, d})
    e = join("e")
    assert not any(reaches(e, other, wait=NEVER) for other in (a, c))
    net.heal()
    assert reaches(e, a)
    assert reaches(d, c)


def test_isolated_jails_leave_the_others_as_they_are(trio: Trio, join: Callable[[str], Jail]):
    net, a, b, c = trio
    d = join("d")
    net.partition({a, b})
    net.isolate(a)
    net.isolate("d")
    assert not any(reaches(one, other, wait=0.1) for one, other in ((a, b), (b, c), (a, c), (d, c), (d, a)))
    net.partition({a, b})
    assert reaches(a, b)
    assert reaches(c, d)
    d.stop(0)
    c.stop(0)
    net.heal()
    assert reaches(b, a)


def arrived(source: Jail, target: Jail, number: int = 200) -> list[int]:
    """Which of so many datagrams arrive; not more than a socket of the usual size can hold."""
    with target.listen(0, udp=True) as server, source.socket(V4, socket.SOCK_DGRAM) as client:
        server.settimeout(0.5)
        client.connect((target.address, server.getsockname()[1]))
        found = []
        # On one processor: each has a queue of its own for what passes a veth(4), and who changes over overtakes himself.
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        for one in range(number):
            client.send(b"%d" % one)
        os.sched_setaffinity(0, before)
        while True:
            try:
                found.append(int(server.recv(100)))
            except TimeoutError:
                return found


def test_the_same_seed_loses_the_same_packets(trio: Trio):
    net, a, b, c = trio
    # Frames that wait for a neighbour's address are overtaken by those that come when it is known.
    assert reaches(a, b)
    lost = {}
    for seed in (1, 2, 1):
        net.shape(a, loss=0.3, seed=seed)
        found = arrived(a, b), arrived(b, a)
        assert 100 <= len(found[0]) <= 180
        # The two directions have not the same luck.
        assert found[0] != found[1]
        assert lost.setdefault(seed, found) == found
    assert lost[1] != lost[2]
    assert arrived(b, c) == list(range(200))
    net.shape(a)
    assert arrived(a, b) == list(range(200))


def test_jitter_takes_nothing_from_the_luck(trio: Trio):
    net, a, b, _ = trio
    assert reaches(a, b)
    net.shape(a, loss=0.2, seed=3)
    found = arrived(a, b)
    net.shape(a, loss=0.2, delay=0.002, jitter=0.001, seed=3)
    assert sorted(arrived(a, b)) == found


def test_all_is_lost_and_then_nothing(trio: Trio):
    net, a, b, _ = trio
    net.shape("a", loss=1)
    assert not reaches(a, b, wait=NEVER)
    assert not reaches(b, a, wait=NEVER)
    net.shape("a", loss=0)
    assert reaches(a, b)


def round_trip(source: Jail, target: Jail, times: int = 5) -> float:
    """The quickest of several, in seconds: others slow down this host, and nobody speeds it up."""
    took = []
    with target.listen(0, udp=True) as server, source.socket(V4, socket.SOCK_DGRAM) as client:
        server.settimeout(5)
        client.settimeout(5)
        client.connect((target.address, server.getsockname()[1]))
        for _ in range(times):
            began = time.monotonic()
            client.send(b"x")
            server.sendto(*server.recvfrom(10))
            client.recv(10)
            took.append(time.monotonic() - began)
    return min(took)


def test_a_delay_is_one_each_way(trio: Trio):
    net, a, b, c = trio
    assert round_trip(a, b) < 0.02
    net.shape(a, delay=0.02)
    assert 0.04 <= round_trip(a, b) < 0.06
    net.shape(b, delay=0.01)
    assert 0.06 <= round_trip(a, b) < 0.08
    assert round_trip(c, b) < 0.04
    net.shape(a)
    net.shape(b)
    assert round_trip(a, b) < 0.02
    assert [fault.what for fault in net.log][1:3] == ["shape: b: delay 0.01 s", "shape: a: as it was"]


def test_jitter_varies_the_delay_and_not_beyond(trio: Trio):
    net, a, b, _ = trio
    net.shape(a, delay=0.03, jitter=0.02, seed=5)
    took = [round_trip(a, b, 1) for _ in range(20)]
    assert min(took) >= 2 * 0.01
    assert max(took) - min(took) > 0.01
    assert sorted(took)[10] < 2 * 0.05


def transfer(client: socket.socket, server: socket.socket, size: int) -> float:
    """Seconds that so many bytes take, when they have all arrived."""
    began = time.monotonic()
    sender = threading.Thread(target=client.sendall, args=(bytes(size),))
    sender.start()
    left = size
    while left:
        left -= len(server.recv(1 << 16))
    sender.join()
    return time.monotonic() - began


@pytest.mark.parametrize("options", [{}, {"delay": 0.005}], ids=["alone", "with a delay"])
def test_a_rate_holds_both_ways(trio: Trio, options: dict):
    net, a, b, _ = trio
    client, server = connected(a, b)
    with client, server:
        net.shape(a, rate="8M", **options)
        # A megabyte a second, but for the burst.
        assert 0.35 < transfer(client, server, 500_000) < 3
        assert 0.35 < transfer(server, client, 500_000) < 3
        net.shape(a)
        assert transfer(client, server, 500_000) < 0.35


def test_whole_frames_pass_the_emulator_and_a_live_connection_changes_over(trio: Trio):
    net, a, b, _ = trio
    client, server = connected(a, b)
    data = bytes(range(256)) * 40_000
    with client, server:
        for options in ({"delay": 0.001}, {}, {"loss": 0.001}, {}):
            net.shape(a, **options)
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            got = bytearray()
            while len(got) < len(data):
                got += server.recv(1 << 20)
            sender.join()
            assert got == data


def test_a_bad_link_stays_bad_through_a_partition(trio: Trio):
    net, a, b, c = trio
    net.shape(a, delay=0.02)
    net.partition({a, b})
    assert round_trip(a, b) >= 0.04
    assert not reaches(a, c, wait=NEVER)
    net.shape(a)
    assert not reaches(a, c, wait=NEVER)
    assert round_trip(a, b) < 0.02
    net.shape(a, delay=0.02)
    net.heal()
    assert round_trip(a, c) >= 0.04


def test_a_jail_leaves_with_its_bad_link(trio: Trio, join: Callable[[str], Jail]):
    net, a, b, c = trio
    net.shape(a, delay=0.01, rate="1M")
    net.shape(b, delay=0.02)
    a.stop(0)
    assert round_trip(b, c) >= 0.04
    again = join("a")
    assert reaches(again, b)
    assert round_trip(again, c) < 0.02


def test_many_may_do_things_at_once(trio: Trio):
    net, a, b, c = trio
    wrong: list[BaseException] = []

    def work(jail: Jail) -> None:
        try:
            for turn in range(5):
                net.shape(jail, delay=0.001 * (turn % 2))
                net.isolate(jail)
                net.heal()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(jail,)) for jail in (a, b, c)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(reaches(one, other) for one in (a, b, c) for other in (a, b, c) if one is not other)


@pytest.mark.parametrize(("options", "words"), [
    ({"delay": -1}, "seconds above 0"), ({"delay": "1"}, "seconds"), ({"delay": 0.1, "jitter": 0.2}, "more than delay"), ({"loss": 1.5}, "0 to 1"),
    ({"loss": True}, "0 to 1"), ({"rate": 10}, "from 1000"), ({"rate": "10mbit"}, "rate='10M'"), ({"rate": True}, "no rate"), ({"seed": "x"}, "whole number"),
])
def test_a_shape_that_cannot_be_meant(trio: Trio, options: dict, words: str):
    net, a, _, _ = trio
    with pytest.raises(SpecError, match=words):
        net.shape(a, **options)
    assert net.log == ()


def test_a_jail_that_is_not_in_the_network(runtime: Runtime, trio: Trio):
    net, a, b, _ = trio
    with runtime.network() as other, runtime.start(["/bin/busybox", "sleep", "60"], network=other, name="a") as stranger:
        for fault in (net.isolate, net.partition, net.shape):
            for jail in (stranger, "nobody", 7, None):
                with pytest.raises(SpecError, match="is not in it"):
                    fault([jail] if fault == net.partition else jail)  # type: ignore[list-item, arg-type]
    with pytest.raises(SpecError, match="b is named twice"):
        net.partition({a, b}, {b})
    b.stop(0)
    with pytest.raises(SpecError, match="In it are a, c"):
        net.isolate(b)
    assert net.log == ()

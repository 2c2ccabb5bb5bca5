"""Networks of jails, as fixtures, and in the report of a test that fails."""

from __future__ import annotations

import pytest

SERVER = '''
import socket
import pytest

def heard(source, target, within=10):
    """Whether a datagram from one jail arrives in another."""
    with target.listen(0, udp=True) as server, source.socket(type=socket.SOCK_DGRAM) as client:
        server.settimeout(within)
        client.sendto(b"x", (target.address, server.getsockname()[1]))
        try:
            return server.recv(1) == b"x"
        except TimeoutError:
            return False

SLEEP = ["/bin/busybox", "sleep", "60"]
'''


def test_a_network_is_a_tests_own(inner: pytest.Pytester):
    inner.makepyfile(SERVER + """
seen = []
@pytest.mark.parametrize("turn", [1, 2])
def test_partition(nsjail_network, nsjail_start, turn):
    net = nsjail_network()
    a, b = (nsjail_start(SLEEP, network=net, name=name) for name in "ab")
    assert heard(a, b)
    net.partition({a}, {b})
    assert not heard(a, b, within=0.3)
    net.heal()
    assert heard(a, b)
    assert all(other.closed for other in seen)
    seen.append(net)

def test_two_networks(nsjail_network, nsjail_start):
    one, other = nsjail_network("one"), nsjail_network("other")
    a, b = nsjail_start(SLEEP, network=one, name="a"), nsjail_start(SLEEP, network=other, name="b")
    assert not heard(a, b, within=0.3)
    assert "one" in repr(one)
""")
    inner.runpytest().assert_outcomes(passed=3)


def test_a_network_that_outlives_a_test(inner: pytest.Pytester):
    inner.makepyfile(SERVER + """
@pytest.fixture(scope="module")
def net(nsjail_network_module): return nsjail_network_module("lab")

@pytest.fixture(scope="module")
def db(net, nsjail_start_module): return nsjail_start_module(SLEEP, network=net, name="db")

@pytest.mark.parametrize("turn", [1, 2])
def test_a_client(nsjail_start, net, db, turn):
    client = nsjail_start(SLEEP, network=net, name="client")
    assert heard(client, db)
    assert (client.address, db.address) == ("10.77.0.2", "10.77.0.1")
""")
    inner.runpytest().assert_outcomes(passed=2)


def test_an_isolated_test_has_networks_too(inner: pytest.Pytester):
    inner.makepyfile(SERVER + """
@pytest.fixture(scope="session")
def net(nsjail_network_session): return nsjail_network_session()

@pytest.fixture(scope="session")
def db(net, nsjail_start_session): return nsjail_start_session(SLEEP, network=net, name="db")

@pytest.mark.isolated
@pytest.mark.parametrize("turn", [1, 2])
def test_own(nsjail_network, nsjail_start, turn):
    net = nsjail_network()
    a, b = (nsjail_start(SLEEP, network=net, name=name) for name in "ab")
    net.isolate(a)
    assert not heard(a, b, within=0.3)

@pytest.mark.isolated
@pytest.mark.parametrize("turn", [1, 2])
def test_shared(db, net, nsjail_start, turn):
    client = nsjail_start(SLEEP, network=net, name="client")
    assert heard(client, db)
""")
    inner.runpytest().assert_outcomes(passed=4)


def test_a_failed_test_shows_what_it_did(inner: pytest.Pytester):
    inner.makepyfile(SERVER + """
@pytest.fixture(scope="module")
def net(nsjail_network_module): return nsjail_network_module("lab")

def test_before(net, nsjail_start):
    net.isolate(nsjail_start(SLEEP, network=net, name="earlier"))

def test_it(net, nsjail_start):
    a = nsjail_start(SLEEP, network=net, name="a")
    net.shape(a, delay=0.5, rate="1M")
    net.partition([a])
    assert False
""")
    result = inner.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*- nsjail: network lab -*", "* s: shape: a: delay 0.5 s, rate 1000000 bit/s", "* s: partition: a"])
    result.stdout.no_fnmatch_line("*isolate: earlier")


def test_every_worker_has_its_own(inner: pytest.Pytester):
    inner.makepyfile(SERVER + """
@pytest.mark.parametrize("turn", range(4))
def test_it(nsjail_network_session, nsjail_start, turn):
    net = nsjail_network_session(f"lab{turn}")
    a, b = (nsjail_start(SLEEP, network=net, name=name) for name in "ab")
    assert heard(a, b)
    assert a.address == "10.77.0.1"
""")
    inner.runpytest("-p", "xdist", "-n", "2").assert_outcomes(passed=4)

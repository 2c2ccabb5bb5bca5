"""What the kernel was asked, as another library reads it from the kernel."""

from __future__ import annotations

import dataclasses
import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_nsjail.errors import SetupError
from pytest_nsjail.kernel import rtnetlink
from pytest_nsjail.network import switch
from pytest_nsjail.network.network import Network
from pytest_nsjail.network.switch import Switch
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.jail import Jail

pyroute2 = pytest.importorskip("pyroute2", reason="the tests' own requirement: pip install -e .[test]")


@pytest.fixture
def jail(runtime: Runtime) -> Iterator[Jail]:
    with runtime.network() as net, runtime.start(["/bin/busybox", "sleep", "60"], network=net, name="a") as one:
        one.net = net  # type: ignore[attr-defined]
        yield one


@contextmanager
def look(jail: Jail) -> Iterator[Any]:
    # asyncio, by which it reads, takes no raw sockets.
    with pyroute2.IPRoute(use_socket=jail.socket(socket.AF_NETLINK, socket.SOCK_DGRAM)) as found:
        yield found


def test_a_jail_has_one_link_more_and_no_way_out(jail: Jail):
    with look(jail) as found:
        links = {link.get_attr("IFLA_IFNAME"): link for link in found.get_links()}
        own = links["eth0"]
        assert own["state"] == "up"
        assert own.get_attr("IFLA_ADDRESS") == "02:6e:73:6a:00:01"
        assert links["lo"]["state"] == "up"
        addresses = {(one.get_attr("IFA_ADDRESS"), one["prefixlen"]) for one in found.get_addr(index=own["index"])}
        # None of the kernel's own, and none that is still tentative.
        assert addresses == {("10.77.0.1", 16), ("fd4e:534a:4149:4c::1", 64)}
        assert not any(one.get_attr("IFA_FLAGS") & 0x40 for one in found.get_addr(index=own["index"]))
        assert list(found.get_default_routes()) == []
        assert {route.get_attr("RTA_DST") for route in found.get_routes(family=socket.AF_INET, oif=own["index"], table=254)} == {"10.77.0.0"}


@pytest.mark.parametrize(("rate", "bytes_a_second"), [("8M", 1_000_000), (1000, 125), ("30G", 3_750_000_000)])
def test_a_rate_is_a_token_bucket(jail: Jail, rate: object, bytes_a_second: int):
    net: Network = jail.net  # type: ignore[attr-defined]
    net.shape(jail, rate=rate)  # type: ignore[arg-type]
    with look(jail) as found:
        queue = next(one for one in found.get_qdiscs() if one.get_attr("TCA_KIND") == "tbf")
        options = queue.get_attr("TCA_OPTIONS")
        assert options.get_attr("TCA_TBF_PARMS")["rate"] == bytes_a_second
        net.shape(jail)
        assert not [one for one in found.get_qdiscs() if one.get_attr("TCA_KIND") == "tbf"]


def test_a_delay_alone_is_the_kernels_where_it_has_netem(jail: Jail):
    net: Network = jail.net  # type: ignore[attr-defined]
    with look(jail) as found:
        for options, kinds in (({"delay": 0.01}, {"netem"}), ({"delay": 0.01, "rate": "1M"}, {"netem", "tbf"}), ({"delay": 0.01, "jitter": 0.01}, set()),
                               ({"delay": 0.02}, {"netem"}), ({}, set())):
            net.shape(jail, **options)
            there = {one.get_attr("TCA_KIND") for one in found.get_qdiscs()} - {"noqueue", "pfifo_fast", "fq_codel", "bfifo"}
            assert there == kinds - (set() if net._switch._netem else {"netem"}), options


class _Refusing:
    """A place where the kernel refuses the last change."""

    def __init__(self, place: Any) -> None:
        self._place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    def configure(self, packet: bytes, namespace: int | None = None) -> list[tuple[int, int]]:
        return [(2, errno.ENOENT)]


def test_a_kernel_without_a_token_bucket_says_so_and_nothing_stays_half_done(jail: Jail, monkeypatch: pytest.MonkeyPatch):
    net: Network = jail.net  # type: ignore[attr-defined]
    whole = rtnetlink.rate
    net.shape(jail, rate="1M")

    def unknown(index: int, bits: int, *, delayed: bool) -> rtnetlink.Change:
        change = whole(index, bits, delayed=delayed)
        return change._replace(message=change.message.replace(b"tbf", b"tbx"))

    monkeypatch.setattr(rtnetlink, "rate", unknown)
    for _ in range(2):
        with pytest.raises(SetupError, match=r"token bucket .*No such file.*sch_tbf"):
            net.shape(jail, rate="2M")
    monkeypatch.undo()
    net.shape(jail, rate="3M")
    net.shape(jail)
    with look(jail) as found:
        assert "tbf" not in {one.get_attr("TCA_KIND") for one in found.get_qdiscs()}


def test_a_change_that_is_refused_is_named(jail: Jail):
    with pytest.raises(SetupError, match=r"no IPv6 address of its own for interface 100 \(No such file") as caught:
        Switch(_Refusing(jail._sockets))
    assert caught.value.errno == errno.ENOENT


def test_every_change_that_fails_is_told_and_the_others_are_made(jail: Jail):
    changes = [rtnetlink.up(99), rtnetlink.bridge(7, "br7"), rtnetlink.bridge(7, "br8"), rtnetlink.up(7), rtnetlink.port_of(98, 7)]
    assert jail._sockets.configure(rtnetlink.packet(changes)) == [(1, errno.ENODEV), (3, errno.EEXIST), (5, errno.ENODEV)]
    with look(jail) as found:
        assert [link["state"] for link in found.get_links() if link["index"] == 7] == ["up"]


def test_an_interface_lets_packets_pass_when_both_its_ends_are_up(jail: Jail, eventually: Callable[[Callable[[], bool]], None]):
    made = [rtnetlink.cable(7, "x", 8, "y"), rtnetlink.up(7), rtnetlink.carried(7), rtnetlink.carried(9)]
    assert jail._sockets.configure(rtnetlink.packet(made)) == [(3, errno.EAGAIN), (4, errno.ENODEV)]
    assert jail._sockets.configure(rtnetlink.packet([rtnetlink.up(8)])) == []
    eventually(lambda: jail._sockets.configure(rtnetlink.packet([rtnetlink.carried(7), rtnetlink.carried(8)])) == [])


class _Slow:
    """A place whose interfaces let nothing pass yet, for so many questions."""

    def __init__(self, place: Any, questions: int) -> None:
        self._place = place
        self.questions = questions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    def configure(self, packet: bytes, namespace: int | None = None) -> list[tuple[int, int]]:
        refused: list[tuple[int, int]] = self._place.configure(packet, namespace)
        if packet == rtnetlink.packet([rtnetlink.carried(100)]) and self.questions:
            self.questions -= 1
            return [(1, errno.EAGAIN)]
        return refused


def test_a_jail_has_joined_when_what_it_sends_arrives(jail: Jail, runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    net: Network = jail.net  # type: ignore[attr-defined]
    (first,) = net._switch._at
    with runtime.start(["/bin/busybox", "sleep", "60"]) as late, runtime.start(["/bin/busybox", "sleep", "60"]) as never:
        slow = dataclasses.replace(first, place=_Slow(late._sockets, 3), number=2, host=2)
        net._switch.plug(slow)
        assert slow.place.questions == 0  # type: ignore[attr-defined]
        monkeypatch.setattr(switch, "_SETTLED", 0.01)
        with pytest.raises(SetupError, match=r"packets through interface 100 \(Resource temporarily unavailable"):
            net._switch.plug(dataclasses.replace(first, place=_Slow(never._sockets, 1_000), number=3, host=3))

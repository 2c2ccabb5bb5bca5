"""Several jails on one switch: who reaches whom, by which name, and what is left of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_nsjail.errors import SpecError
from pytest_nsjail.network.network import Network
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.jail import Jail
from pytest_nsjail.spec.dependency import Elf
from pytest_nsjail.spec.mount import Bind, Tmpfs
from tests.network.conftest import until

Serve = Callable[..., Jail]
BUSYBOX = "/bin/busybox"

# Answers on TCP and UDP port 80, of both families, with its host name and who asked.
SERVER = """
import socket, socketserver, threading
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(f'{socket.gethostname()} to {self.client_address[0].removeprefix("::ffff:")}: '.encode() + data)
class Server(socketserver.ThreadingTCPServer):
    address_family, allow_reuse_address, daemon_threads, request_queue_size = socket.AF_INET6, True, True, 64
server = Server(('::', 80), Tcp)
print('ready')
server.serve_forever()
"""
HTTP = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'hello')
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = __import__('socket').AF_INET6
server = Server(('::', 8080), Handler)
print('ready')
server.serve_forever()
"""
ASK = """
import socket, sys
def ask(host, family):
    try:
        with socket.socket(family) as sock:
            sock.settimeout(5)
            sock.connect(socket.getaddrinfo(host, 80, family, socket.SOCK_STREAM)[0][4])
            sock.sendall(b'hello')
            return sock.recv(100).decode()
    except OSError as error:
        return f'{type(error).__name__}: {error}'
for host in sys.argv[1:]:
    print(ask(host, socket.AF_INET))
    print(ask(host, socket.AF_INET6))
"""


@pytest.fixture
def net(runtime: Runtime) -> Iterator[Network]:
    with runtime.network() as one:
        yield one


def asked(jail: Jail, *hosts: str) -> list[str]:
    return jail.run(["python", "-c", ASK, *hosts], check=True).stdout.splitlines()


def names(jail: Jail) -> dict[str, list[str]]:
    """What its /etc/hosts says."""
    found: dict[str, list[str]] = {}
    for line in jail.run(["python", "-c", "print(open('/etc/hosts').read())"], check=True).stdout.split("\n"):
        address, *called = line.split() or [""]
        for name in called:
            found.setdefault(name, []).append(address)
    return found


def test_jails_reach_each_other_by_name(serve: Serve, net: Network):
    web = serve(SERVER, network=net, name="web")
    db = serve(SERVER, network=net, name="db")
    other = serve(SERVER, network=net)
    assert (web.name, db.name, other.name) == ("web", "db", "jail3")
    v4, v6 = web.addresses
    assert (web.address, net.addresses["web"]) == (v4, (v4, v6))
    assert asked(web, "db", f"db.{net.name}") == [f"db to {v4}: hello", f"db to {v6}: hello"] * 2
    assert asked(db, "web")[0] == f"web to {db.address}: hello"
    # Itself, by its own name and by the one that every host has for itself.
    assert asked(web, "web", "localhost")[::2] == [f"web to {v4}: hello", "web to 127.0.0.1: hello"]
    assert asked(other, "jail3")[0] == f"nsjail to {other.address}: hello"
    assert list(net.members.items()) == [("web", web), ("db", db), ("jail3", other)]
    assert names(other)["nsjail"] == list(other.addresses)


def test_names_come_and_go_with_the_jails(serve: Serve, net: Network):
    web = serve(SERVER, network=net, name="web")
    db = serve(SERVER, network=net, name="db")
    before = db.addresses
    assert {"web", "db", f"db.{net.name}", "localhost"} == set(names(web)) - {f"web.{net.name}"}
    db.stop()
    assert "db" not in names(web)
    assert "db" not in net.addresses
    other = serve(SERVER, network=net, name="other")
    again = serve(SERVER, network=net, name="DB")
    assert again.addresses == before
    assert names(web)["DB"] == list(before)
    assert asked(web, "DB", "other") == [f"{name} to {address}: hello" for name in ("DB", "other") for address in web.addresses]
    assert other.addresses not in (before, web.addresses)


def test_code_of_the_tests_own_knows_the_names(serve: Serve, net: Network):
    web = serve(HTTP, network=net, name="web")
    client = serve("print('ready'); import time; time.sleep(60)", network=net)
    with client.sockets():
        for host in ("web", f"web.{net.name}", web.address, f"[{web.addresses.v6}]"):
            with urllib.request.urlopen(f"http://{host}:8080/", timeout=5) as answer:
                assert answer.read() == b"hello"
    with pytest.raises(OSError, match=r"not known|No address|failure in name"):
        socket.getaddrinfo("web", 80)


def test_what_is_started_and_waited_for_may_join(runtime: Runtime, box: Image, serve: Serve, net: Network):
    serve(SERVER, network=net, name="web")
    result = runtime.run(["python", "-c", ASK, "web"], image=box, network=net, name="client")
    assert result.stdout.splitlines()[0] == "web to 10.77.0.2: hello"
    assert list(result.changes) == []
    assert list(net.members) == ["web"]


def test_nothing_but_the_switch_is_reachable(runtime: Runtime, serve: Serve, net: Network):
    jail = serve(SERVER, network=net, name="web")
    with runtime.network() as elsewhere, socket.create_server(("", 0)) as ours, socket.socket(socket.AF_UNIX) as named:
        named.bind("\0nsjail-test-network")
        named.listen()
        stranger = serve(SERVER, network=elsewhere, name="stranger")
        alone = serve(SERVER)
        places = [*_own_addresses(), "192.0.2.1", "8.8.8.8", "2001:db8::1", "fe80::1"]
        # The stranger has the address that this one has: it is itself that it finds there.
        assert stranger.addresses == jail.addresses
        script = f"""
import socket
for host in {places}:
    for port in ({ours.getsockname()[1]}, 80):
        try:
            socket.create_connection((host, port), timeout=5)
            print('reached', host)
        except OSError as error:
            print(error.errno)
try:
    socket.socket(socket.AF_UNIX).connect('\\0nsjail-test-network')
    print('reached by name')
except OSError as error:
    print(error.errno)
"""
        said = jail.run(["python", "-c", script], check=True).stdout.split()
        # ENETUNREACH, EHOSTUNREACH, ECONNREFUSED at the name, EINVAL for a link-local address without a link
        assert set(said) <= {"101", "113", "22", "111"}, said
        assert said.count("111") == 1
        assert alone.run(["python", "-c", ASK, "10.77.0.1"]).stdout.startswith("OSError: [Errno 101]")


def _own_addresses() -> list[str]:
    """The host's, but for its loopback."""
    import fcntl
    import struct

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                found.append(socket.inet_ntoa(fcntl.ioctl(sock, 0x8915, struct.pack("256s", name.encode()))[20:24]))  # SIOCGIFADDR
            except OSError:
                continue
    return [address for address in found if not address.startswith("127.")]


UNDO = """
import fcntl, os, socket, struct
assert os.getuid() == 0
def netlink(kind, flags, body):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.send(struct.pack('=IHHII', 16 + len(body), kind, 1 | 4 | flags, 1, 0) + body)
        return -struct.unpack_from('=i', sock.recv(65536), 16)[0]
index = socket.if_nametoindex('eth0')
print(netlink(19, 0, struct.pack('=BxHiII', 0, 0, index, 0, 1)))                                             # eth0 down
print(netlink(17, 0, struct.pack('=BxHiII', 0, 0, index, 0, 0)))                                             # eth0 gone
print(netlink(20, 0x400, struct.pack('=BBBBI', 2, 8, 0, 0, index) + struct.pack('=HH4s', 8, 2, b'\\x0a\\1\\1\\1')))  # an address
print(netlink(37, 0, struct.pack('=BxHiIII', 0, 0, index, 0, 0xFFFFFFFF, 0)))                                # its queue gone
print(netlink(16, 0x600, struct.pack('=BxHiII', 0, 0, 0, 0, 0) + struct.pack('=HHHH6sxx', 16, 18, 10, 1, b'dummy\\0')))
for kind in (socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW, 1):
    try:
        socket.socket(*kind)
        print('made')
    except OSError as error:
        print(error.errno)
try:
    fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'eth0', 0))
except OSError as error:
    print(error.errno)
"""


def test_root_in_a_jail_can_change_nothing_of_its_link(serve: Serve, net: Network):
    jail = serve(SERVER, network=net, name="web")
    assert jail.run(["python", "-c", UNDO], check=True).stdout.split() == ["1"] * 8
    assert asked(jail, "web")[0] == f"web to {jail.address}: hello"


@pytest.mark.parametrize("options", [{}, {"read_only": True}, {"user": 500}, {"mounts": [Tmpfs("/etc")]}], ids=["root", "read-only", "user", "tmpfs"])
def test_the_names_cannot_be_written_to(runtime: Runtime, net: Network, options: dict):
    script = "cat /etc/hosts; (echo x >>/etc/hosts) 2>&1; rm /etc/hosts 2>&1; mv /etc/hosts /etc/x 2>&1; mkdir /tmp/y; true"
    # An image without an /etc.
    image = runtime.image(Elf(BUSYBOX, "/bin/sh"), Elf(BUSYBOX, "/bin/cat"), Elf(BUSYBOX, "/bin/rm"), Elf(BUSYBOX, "/bin/mv"), Elf(BUSYBOX, "/bin/mkdir"))
    result = runtime.run(["/bin/sh", "-c", script], image=image, network=net, name="db", **options)
    assert f"10.77.0.1\tdb db.{net.name}\n" in result.stdout
    assert result.stdout.count("Read-only file system") + result.stdout.count("Permission denied") >= 1, result.report()
    assert [path for path in result.changes if not path.startswith("/tmp")] == []


def test_a_file_of_the_users_stands_before_ours(runtime: Runtime, net: Network, tmp_path: Path):
    (tmp_path / "hosts").write_text("192.0.2.1 own\n")
    result = runtime.run([BUSYBOX, "cat", "/etc/hosts"], network=net, mounts=[Bind(tmp_path / "hosts", "/etc/hosts")])
    assert result.stdout == "192.0.2.1 own\n"


def test_a_name_or_a_network_that_cannot_be_meant(runtime: Runtime, net: Network, tmp_path: Path):
    with runtime.start([BUSYBOX, "sleep", "60"], network=net, name="db"):
        for name, words in (("db", "another jail's"), ("DB", "another jail's"), ("localhost", "every jail"), ("a b", "hostname"), ("", "empty")):
            with pytest.raises(SpecError, match=words):
                runtime.start([BUSYBOX, "true"], network=net, name=name)
        assert list(net.members) == ["db"]
    with pytest.raises(SpecError, match="in no network"):
        runtime.run([BUSYBOX, "true"], name="db")
    with pytest.raises(SpecError, match="there is a network"):
        runtime.network(net.name)
    with pytest.raises(SpecError, match="hostname"):
        runtime.network("a/b")
    with pytest.raises(SpecError, match="with nobody"), runtime.start([BUSYBOX, "sleep", "60"]) as jail:
        assert jail.address
    net.close()
    net.close()
    with pytest.raises(SpecError, match="closed"):
        runtime.run([BUSYBOX, "true"], network=net)
    with pytest.raises(SpecError, match="closed"):
        net.heal()
    with runtime.network(net.name) as again, Runtime(str(tmp_path / "store")) as other:
        for one in (net, other.network(net.name)):
            with pytest.raises(SpecError, match="another session's"):
                runtime.run([BUSYBOX, "true"], network=one)
        assert runtime.run([BUSYBOX, "true"], network=again).ok


def test_a_jail_that_has_died_is_in_nobodys_way(serve: Serve, net: Network):
    dead = serve("print('ready')", network=net, name="dead")
    until(lambda: dead.ended)
    web = serve(SERVER, network=net, name="web")
    net.partition({dead}, {web})
    net.isolate(dead)
    net.heal()
    db = serve(SERVER, network=net, name="db")
    assert asked(db, "web")[0] == f"web to {db.address}: hello"
    dead.wait()
    assert set(net.members) == {"web", "db"}


def test_a_network_that_is_closed_under_its_jails(serve: Serve, net: Network):
    web, db = (serve(SERVER, network=net, name=name) for name in ("web", "db"))
    with web.socket() as sock:
        sock.settimeout(5)
        sock.connect((db.address, 80))
        net.close()
        until(lambda: "eth0" not in web.run(["python", "-c", "import socket; print(socket.if_nameindex())"]).stdout)
    web.dial(80).close()
    assert web.stop().status
    assert db.stop().status


def test_sixteen_jails(runtime: Runtime, serve: Serve, net: Network):
    web = serve(SERVER, network=net, name="web")
    others = [runtime.start([BUSYBOX, "sleep", "60"], network=net, name=f"n{number}") for number in range(15)]
    try:
        for jail in others:
            for family, address in zip((socket.AF_INET, socket.AF_INET6), web.addresses, strict=True):
                with jail.socket(family) as sock:
                    sock.settimeout(5)
                    sock.connect((address, 80))
                    sock.sendall(b"x")
                    assert sock.recv(99).startswith(b"web to ")
        assert len(set(net.addresses.values())) == 16
        assert len(names(web)) == 16 * 2 + 1
    finally:
        for jail in others:
            jail.stop(0)


def test_joining_leaves_no_descriptor(runtime: Runtime):
    def once() -> None:
        with runtime.network() as net, runtime.start([BUSYBOX, "sleep", "60"], network=net, name="a") as jail:
            net.shape(jail, delay=0.001, rate="10M")

    once()
    # The spares are there again before descriptors are counted.
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        once()
    assert len(os.listdir("/proc/self/fd")) == before


SESSION = """
import sys, time
from pytest_nsjail.runtime import Runtime
with Runtime(sys.argv[1]) as runtime:
    with runtime.network() as net:
        jails = [runtime.start(['/bin/busybox', 'sleep', '600'], network=net) for _ in range(2)]
        net.shape(jails[0], delay=0.01)
        net.partition(jails[0])
        print('ready', flush=True)
        time.sleep(600)
"""


def test_a_kill_of_pytest_leaves_nothing_of_a_network(tmp_path: Path):
    session = subprocess.Popen([sys.executable, "-c", SESSION, tmp_path / "store"], stdout=subprocess.PIPE)
    assert session.stdout
    assert session.stdout.readline() == b"ready\n"
    below = _below(session.pid)
    assert len(below) >= 2 + 3 + 2  # keeper and zygote, the inits, the programs
    session.send_signal(signal.SIGKILL)
    session.communicate()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in below))
    assert not [name for _, name in socket.if_nameindex() if name.startswith(("br0", "p1", "i1", "o1"))]


def _below(pid: int) -> set[int]:
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, todo = set(), {pid}
    while todo:
        todo = {child for child, parent in parents.items() if parent in todo}
        found |= todo
    return found

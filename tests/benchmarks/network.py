"""What a connection into a jail costs, against one over plain loopback to the same server: ``python -m tests.benchmarks.network``."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from pytest_nsjail import Elf, Tree
from pytest_nsjail.runtime import Runtime
from tests.benchmarks import engine
from tests.benchmarks.measure import Times, interleaved, markdown

ROUNDS, CONNECTIONS, MEBIBYTES = 15, 200, 256
# What a client hands over at once, in KiB: most libraries, iperf, and the server here.
PIECES = (64, 128, 256)
PLAIN, DIALLED, PUBLISHED, PROXY, DOCKER = "plain loopback", "dialled", "published", "docker-proxy, over loopback alone", "published by Docker"
PYTHON = "/usr/bin/python3"
# Reads all, then says one byte; of one byte it is the echo.
SERVER = """
import socket
server = socket.create_server(('{host}', {port}), backlog=64)
print(server.getsockname()[1], flush=True)
buffer = bytearray(1 << 18)
while True:
    client, _ = server.accept()
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = client.recv_into(buffer)
        if first > 1:
            while client.recv_into(buffer):
                pass
        client.sendall(b'.')
"""
Connect = Callable[[], socket.socket]


def measured(directory: Path) -> str:
    """The tables: bytes in a stream, by pieces of several sizes, and a connection with one byte each way."""
    with Runtime(str(directory / "store")) as runtime, ExitStack() as stack:
        library = Path(PYTHON).resolve().name
        image = runtime.image(Elf(PYTHON, to="/bin/python"), Tree(f"/usr/lib/{library}", exclude=("test", "__pycache__")), env={"PATH": "/bin"})
        jail = stack.enter_context(runtime.start(["python", "-u", "-c", SERVER.format(host="127.0.0.1", port=7)], image=image, publish={7: 0}))
        plain = stack.enter_context(_served())
        ways: dict[str, Connect] = {
            PLAIN: lambda: socket.create_connection(("127.0.0.1", plain)),
            DIALLED: lambda: jail.dial(7),
            PUBLISHED: lambda: socket.create_connection(jail.ports[7]),
        }
        if proxy := shutil.which("docker-proxy"):
            proxied = stack.enter_context(_proxied(proxy, plain))
            ways[PROXY] = lambda: socket.create_connection(("127.0.0.1", proxied))
        if engine.answers():
            command = json.dumps(["/bin/python", "-u", "-c", SERVER.format(host="0.0.0.0", port=7)])
            tag = stack.enter_context(engine.image(Path(image.rootfs.path), "ENV PATH=/bin", f"CMD {command}"))
            outer = stack.enter_context(engine.container(tag, 7))
            ways[DOCKER] = lambda: socket.create_connection(("127.0.0.1", outer))
        # It waits until its server listens.
        _connected(ways[PUBLISHED])
        streams = {
            size: interleaved({name: lambda connect=connect, size=size: _streamed(connect, size) for name, connect in ways.items()}, ROUNDS) for size in PIECES
        }
        connections = interleaved({name: lambda connect=connect: [_connected(connect) for _ in range(CONNECTIONS)] for name, connect in ways.items()}, ROUNDS)
    tables = [
        _table(times, f"a stream by pieces of {size} KiB", lambda seconds: f"{MEBIBYTES / seconds:.0f} MiB/s", lambda plain, way: plain / way)
        for size, times in streams.items()
    ]
    last = _table(connections, "connect, and one byte each way", lambda seconds: f"{seconds / CONNECTIONS * 1e6:.0f} us", lambda plain, way: way / plain)
    return "\n\n".join((*tables, last))


def _table(times: Times, what: str, shown: Callable[[float], str], ratio: Callable[[float, float], float]) -> str:
    rows = [
        (name, shown(median(seconds)), f"{median(ratio(plain, way) for plain, way in zip(times[PLAIN], seconds, strict=True)):.2f}")
        for name, seconds in times.items()
    ]
    return markdown((what, "median", f"ratio to {PLAIN}"), rows)


def _streamed(connect: Connect, size: int) -> None:
    piece = bytes(size << 10)
    with connect() as sock:
        for _ in range((MEBIBYTES << 10) // size):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        _answered(sock)


def _connected(connect: Connect) -> None:
    with connect() as sock:
        sock.sendall(b".")
        _answered(sock)


def _answered(sock: socket.socket) -> None:
    if sock.recv(1) != b".":
        raise SystemExit("the server did not answer")


@contextmanager
def _served() -> Iterator[int]:
    """The server as a process of the host: its port."""
    with subprocess.Popen([PYTHON, "-c", SERVER.format(host="127.0.0.1", port=0)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def _proxied(proxy: str, port: int) -> Iterator[int]:
    """Docker's proxy in front of it. In an engine there is a pair of virtual interfaces and a bridge behind it, which is more to pay for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        outer = free.getsockname()[1]
    # It says on descriptor 3 whether it listens.
    said, say = os.pipe()
    where = ["-host-ip", "127.0.0.1", "-host-port", str(outer), "-container-ip", "127.0.0.1", "-container-port", str(port)]
    with subprocess.Popen([proxy, "-proto", "tcp", *where], preexec_fn=lambda: os.dup2(say, 3), pass_fds=[3]) as process:
        os.close(say)
        try:
            if os.read(said, 1) != b"0":
                raise SystemExit("docker-proxy does not listen")
            yield outer
        finally:
            os.close(said)
            process.kill()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="nsjail-benchmark-") as name:
        print(measured(Path(name)))
    sys.exit()

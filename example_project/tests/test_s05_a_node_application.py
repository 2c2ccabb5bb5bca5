"""S5: npm installs an application in a stage; what it made goes into an image without npm, and serves."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from pytest_nsjail import Copy, Elf, Exited, Listening, Log, Tree

NPM = Path("/usr/bin/npm").resolve()
# Debian's npm is made of other packages beside it, which its Node finds by where it lies itself; others bring theirs along.
LIBRARY = Path("/usr/share/nodejs")
NPM_PARTS = [LIBRARY, Path("/usr/share/javascript")] if LIBRARY in NPM.parents else [NPM.parents[1]]


@pytest.fixture(scope="session")
def installed(nsjail_image, project):
    """A build stage: Node, npm, and the application with a package of its own, which package.json names."""
    npm = nsjail_image(
        Elf("/usr/bin/node"),
        *map(Tree, NPM_PARTS),
        Tree(project / "page", to="/var/app", exclude=("node_modules", "package-lock.json")),
        env={"HOME": "/tmp", "PATH": "/usr/bin"},
        workdir="/var/app",
        name="npm",
    )
    return npm.stage(["node", NPM, "install", "--offline", "--no-audit", "--no-fund"])


@pytest.fixture(scope="session")
def page(nsjail_image, node_files, installed):
    return nsjail_image(
        *node_files,
        Copy(installed, "/var/app"),
        env={"PORT": "3000"},
        workdir="/var/app",
        user="nodeuser",
        entrypoint=["node"],
        cmd=["server.js"],
        name="page",
    )


@pytest.fixture
def server(nsjail_start, page):
    return nsjail_start([], image=page, publish={3000: 0}, ready=Listening(3000))


def test_s5_npm_is_not_in_the_image_and_what_it_installed_is(page):
    # A package of the tree npm installs as a link to it or as a copy, which of them depends on its version.
    assert any(path.startswith("/var/app/node_modules/greeting") for path in page.files)
    assert not any("/npm/" in path for path in page.files)


def test_s5_through_the_published_port(server):
    host, port = server.ports[3000]
    assert httpx.get(f"http://{host}:{port}/").text == "<h1>Hello, nodeuser!</h1>\n"


def test_s5_through_a_dialled_socket(server):
    with server.dial(3000) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"<h1>Hello, nodeuser!</h1>\n")


def test_s5_by_a_client_that_knows_nothing_of_jails(server):
    with server.sockets():
        assert httpx.get(server.url(3000)).text == "<h1>Hello, nodeuser!</h1>\n"


def test_s5_it_runs_as_its_user(server):
    status = server.run(["node", "-p", "fs.readFileSync('/proc/2/status', 'utf8')"]).stdout
    assert "Uid:\t500\t500\t500\t500\n" in status


def test_s5_it_ends_when_it_is_told_to(server):
    # It says so after its port is open.
    server.until(Log("listening on"))
    result = server.stop()
    assert (result.status, result.stdout) == (Exited(0), "listening on 3000\n")

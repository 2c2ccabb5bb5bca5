"""A Node application with a package of its own, serving a page in a jail."""

from __future__ import annotations

import pytest

from pytest_nsjail import Exited, Symlink, Tree

# Asks until the server listens.
CLIENT = """
const http = require("http");
const ask = () => http.get({host: "127.0.0.1", port: process.env.PORT}, (page) => page.pipe(process.stdout))
  .on("error", () => setTimeout(ask, 20));
ask();
"""


@pytest.fixture(scope="session")
def page(nsjail_image, node_files, project):
    return nsjail_image(
        *node_files,
        Tree(project / "page", to="/var/app", exclude=("node_modules",)),
        # What npm makes of "file:./greeting".
        Symlink("/var/app/node_modules/greeting", "../greeting"),
        env={"PORT": "3000"},
        workdir="/var/app",
        user="nodeuser",
        cmd=["node", "server.js"],
        name="page",
    )


def test_node_serves_its_page(nsjail_start, page):
    jail = nsjail_start([], image=page)
    answer = jail.run(["node", "-e", CLIENT], timeout=60)
    assert answer.stderr == ""
    assert answer.stdout == "<h1>Hello, nodeuser!</h1>\n"
    assert "listening on 3000" in jail.logs
    assert jail.stop().status == Exited(0)


def test_node_two_servers_on_the_same_port(nsjail_start, page):
    jails = [nsjail_start([], image=page) for _ in range(2)]
    for jail in jails:
        assert jail.run(["node", "-e", CLIENT], timeout=60).stdout == "<h1>Hello, nodeuser!</h1>\n"

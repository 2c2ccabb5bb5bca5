"""S4: an image of one big program, two small ones, and a user made on purpose."""

from __future__ import annotations

import pytest

from pytest_nsjail import Elf, Exited


@pytest.fixture(scope="session")
def node(nsjail_image, node_files):
    return nsjail_image(
        *node_files,
        Elf("/bin/sh"),
        Elf("/usr/bin/env"),
        env={"PORT": "3000"},
        workdir="/var/app",
        user="nodeuser",
        entrypoint=["node"],
        name="node",
    )


def test_s4_version(nsjail_run, node):
    result = nsjail_run(["-v"], image=node)
    assert result.status == Exited(0)
    assert result.stdout.startswith("v")


def test_s4_what_the_image_weighs_largest_first(node):
    words = (line.split() for line in node.tree().splitlines())
    shown = [path for path in (next((word for word in row if word in node.files), None) for row in words) if path]
    sizes = [node.files[path].size for path in shown]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == max(file.size for file in node.files.values())
    # At /bin/node as declared, even where the shell brought /bin as a symlink to usr/bin.
    assert {"/bin/node", "/usr/bin/node"} & set(shown)


def test_s4_the_users_name_resolves(nsjail_run, node):
    result = nsjail_run(["-p", "const {uid, username} = require('os').userInfo(); `${uid} ${username} ${process.cwd()}`"], image=node)
    assert result.stdout == "500 nodeuser /var/app\n"


def test_s4_the_environment_is_the_declared_one(nsjail_run, node):
    result = nsjail_run(["-p", "JSON.stringify(process.env)"], image=node)
    assert result.stdout == '{"PORT":"3000"}\n'

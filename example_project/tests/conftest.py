"""What the tests share: the project's two hooks, and the images that several tests run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_nsjail import Bind, Elf, Tree, Users

PROJECT = Path(__file__).resolve().parents[1]

FINISHED = pytest.StashKey[list]()


def pytest_nsjail_spec(config, spec):
    """Every jail of this project gets a message of the day; a CI would bind its proxy's certificate here."""
    return replace(spec, mounts=(*spec.mounts, Bind(PROJECT / "motd", "/etc/motd")))


def pytest_nsjail_finished(config, spec, result):
    """Keep what ran: a CI would write it to its report here."""
    config.stash.setdefault(FINISHED, []).append((spec, result))


@pytest.fixture
def finished(pytestconfig):
    """Every jail that ended so far: (JailSpec, Result) pairs."""
    return pytestconfig.stash.setdefault(FINISHED, [])


@pytest.fixture(scope="session")
def project():
    """The folder of this project, wherever it was copied to."""
    return PROJECT


@pytest.fixture(scope="session")
def busybox(nsjail_image):
    """One static file that is a shell and a hundred commands: the image of tests that are about the jail, not the program."""
    return nsjail_image(Elf("/bin/busybox"), name="busybox")


@pytest.fixture(scope="session")
def node_files():
    """Node and its closure, and a user to run it as."""
    # Debian's own package keeps some of Node's JavaScript in files; others compile it into the program.
    parts = [Tree(path) for path in map(Path, NODE_PARTS) if path.is_dir()]
    return Elf("/usr/bin/node", to="/bin/node"), Users(nodeuser=500), *parts


NODE_PARTS = ["/usr/share/nodejs/acorn", "/usr/share/nodejs/acorn-walk", "/usr/share/nodejs/cjs-module-lexer", "/usr/share/nodejs/undici"]

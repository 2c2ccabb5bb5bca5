"""What the tests share: the project's two hooks, and the images that several tests run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_nsjail import Bind, Copy, Elf, File, Text, Tree, Users

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


# The servers of S6 and S7, from the distribution's packages.


@pytest.fixture(scope="session")
def redis(nsjail_image):
    """Redis, as a user of its own; it saves what it has in its working directory when it ends."""
    return nsjail_image(
        Elf("/usr/bin/redis-server"), Users(redis=101), user="redis", workdir="/tmp", entrypoint=["/usr/bin/redis-server"], name="Redis",
    )


@pytest.fixture(scope="session")
def memcached(nsjail_image):
    """Memcached, as a user of its own."""
    return nsjail_image(Elf("/usr/bin/memcached"), Users(memcache=102), user="memcache", entrypoint=["/usr/bin/memcached"], name="memcached")


@pytest.fixture(scope="session")
def nginx(nsjail_image):
    """A function of a server block, that makes an image of it: what nginx writes is below /tmp, so that it needs to be nobody in particular."""

    def nginx(server):
        return nsjail_image(
            Elf("/usr/sbin/nginx"), File("/etc/nginx/mime.types"), Text("/etc/nginx/nginx.conf", NGINX_CONF.replace("SERVER", server)),
            # A name is looked up in /etc/hosts, and nowhere else.
            Text("/etc/nsswitch.conf", "hosts: files\n"),
            Users(nginx=103), user="nginx", entrypoint=["/usr/sbin/nginx", "-e", "stderr"], name="nginx",
        )

    return nginx


NGINX_CONF = """
daemon off;
pid /tmp/nginx.pid;
events {}
http {
    include mime.types;
    access_log /dev/stdout;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    scgi_temp_path /tmp/scgi;
    uwsgi_temp_path /tmp/uwsgi;
    server { SERVER }
}
"""


@pytest.fixture(scope="session")
def postgres(nsjail_image):
    """PostgreSQL with a cluster that a stage has made: initdb takes seconds, a copy of what it made does not.

    It begins as a copy in $PGDATA, where that is empty. PostgreSQL refuses to be root, and wants to own what it writes to.
    """
    home = sorted(Path("/usr/lib/postgresql").iterdir(), key=lambda path: float(path.name))[-1]
    shared = Path("/usr/share/postgresql") / home.name
    parts = (
        # Where it is, for it finds the rest by that.
        Elf(home / "bin/initdb"),
        Elf(home / "bin/postgres"),
        Tree(home / "lib", exclude=("bitcode", "pgxs", "llvmjit*")),
        Tree(shared, exclude=("extension", "man")),
        *(File(path) for path in (shared / "extension").glob("plpgsql*")),
        Tree("/usr/share/zoneinfo/Etc"),
        *map(Elf, ("/bin/sh", "/bin/cp", "/bin/chmod")),
        Users(postgres=70),
    )
    settings = {"user": "postgres", "env": {"PATH": f"{home}/bin:/bin", "PGDATA": "/tmp/data"}}
    made = nsjail_image(*parts, **settings).stage(["/bin/sh", "-c", INITDB])
    return nsjail_image(*parts, Copy(made, "/tmp/data", to="/template"), Text("/entrypoint", ENTRYPOINT, mode=0o755), **settings,
                        entrypoint=["/entrypoint"], name="PostgreSQL")


INITDB = "initdb --no-sync --auth=trust --encoding=UTF8 --no-locale --wal-segsize=1 && chmod -R a+rX $PGDATA"
ENTRYPOINT = """#!/bin/sh
set -e
[ -e $PGDATA/PG_VERSION ] || cp -R /template/. $PGDATA
chmod 700 $PGDATA
exec postgres -c 'listen_addresses=*' -c unix_socket_directories=/tmp -c fsync=off "$@"
"""


NODE_PARTS = ["/usr/share/nodejs/acorn", "/usr/share/nodejs/acorn-walk", "/usr/share/nodejs/cjs-module-lexer", "/usr/share/nodejs/undici"]

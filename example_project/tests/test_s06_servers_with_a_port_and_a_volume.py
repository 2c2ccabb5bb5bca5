"""S6: a server, detached, with a published port and a directory of the host's: what it wrote there survives it."""

from __future__ import annotations

import signal

import httpx
import psycopg
import pymemcache
import redis as redis_client

from pytest_nsjail import Bind, Exited, Listening, Log, Unix

pytest_plugins = ["pytester"]

READY = Log("database system is ready to accept connections")


def test_s6_postgresql_survives_a_restart(nsjail_start, postgres, tmp_path):
    def start():
        volume = Bind(tmp_path, "/data", writable=True)
        return nsjail_start([], image=postgres, mounts=[volume], env={"PGDATA": "/data"}, publish={5432: 0}, ready=READY)

    def connect(server):
        host, port = server.ports[5432]
        return psycopg.connect(host=host, port=port, user="postgres", dbname="postgres")

    server = start()
    with connect(server) as connection:
        connection.execute("CREATE TABLE animal (name text, legs int)")
        connection.execute("INSERT INTO animal VALUES ('ant', 6), ('bee', 6), ('cat', 4)")
    server.signal(signal.SIGINT)
    assert server.wait(timeout=30).status == Exited(0)

    # It is a directory like any other: of who runs the tests, to look at and to remove.
    assert (tmp_path / "PG_VERSION").owner() == tmp_path.owner()
    with connect(start()) as connection:
        assert connection.execute("SELECT name FROM animal WHERE legs = 6 ORDER BY name").fetchall() == [("ant",), ("bee",)]


def test_s6_redis_survives_a_restart(nsjail_start, redis, tmp_path):
    def start():
        volume = Bind(tmp_path, "/data", writable=True)
        return nsjail_start(["--dir", "/data"], image=redis, mounts=[volume], publish={6379: 0}, ready=Listening(6379))

    server = start()
    with redis_client.Redis(*server.ports[6379]) as client:
        assert client.ping()
        client.set("animal", "ant")
    # It saves what it has when it is told to end.
    assert server.stop().status == Exited(0)
    assert (tmp_path / "dump.rdb").exists()
    with redis_client.Redis(*start().ports[6379]) as client:
        assert client.get("animal") == b"ant"


def test_s6_nginx_serves_a_directory(nsjail_start, nginx, tmp_path):
    (tmp_path / "index.html").write_text("<h1>Hello, World</h1>\n")
    tmp_path.chmod(0o755)
    image = nginx("listen 8080; root /site;")
    server = nsjail_start([], image=image, mounts=[Bind(tmp_path, "/site")], publish={8080: 0}, ready=Listening(8080))
    host, port = server.ports[8080]
    answer = httpx.get(f"http://{host}:{port}/")
    assert (answer.text, answer.headers["Content-Type"]) == ("<h1>Hello, World</h1>\n", "text/html")
    assert httpx.get(f"http://{host}:{port}/absent").status_code == 404
    server.until(Log('"GET /absent HTTP/1.1" 404'))


def test_s6_nginx_as_a_proxy_to_another_jail(nsjail_start, nsjail_network, nginx, tmp_path):
    (tmp_path / "index.html").write_text("<h1>Hello from behind</h1>\n")
    tmp_path.chmod(0o755)
    net = nsjail_network()
    nsjail_start([], image=nginx("listen 3000; root /site;"), mounts=[Bind(tmp_path, "/site")], network=net, name="app", ready=Listening(3000))
    front = nginx("listen 8080; location / { proxy_pass http://app:3000; add_header Via $upstream_addr; }")
    server = nsjail_start([], image=front, network=net, name="proxy", publish={8080: 0}, ready=Listening(8080))
    host, port = server.ports[8080]
    answer = httpx.get(f"http://{host}:{port}/")
    assert answer.text == "<h1>Hello from behind</h1>\n"
    assert answer.headers["Via"].endswith(":3000")


def test_s6_memcached_at_a_unix_socket(nsjail_start, memcached, tmp_path_factory):
    # The path of a socket has 108 bytes at the most (unix(7)): a short one.
    directory = tmp_path_factory.mktemp("m")
    server = nsjail_start(["-s", "/run/m/sock"], image=memcached, mounts=[Bind(directory, "/run/m", writable=True)], ready=Unix("/run/m/sock"))
    # The file is there on the host as well, for clients that take a path; dial() needs none.
    client = pymemcache.Client(f"{directory}/sock")
    client.set("animal", "ant")
    assert client.get("animal") == b"ant"
    client.close()
    with server.dial("/run/m/sock") as sock:
        sock.sendall(b"get animal\r\n")
        assert sock.recv(100) == b"VALUE animal 0 3\r\nant\r\nEND\r\n"


def test_s6_logs_are_attached_when_the_test_fails(pytester):
    pytester.makepyfile("""
        from pytest_nsjail import Log

        def test_it(nsjail_start):
            server = nsjail_start(["/usr/bin/redis-server"], ready=Log("Ready to accept connections"))
            assert server.ended, "it goes on"
    """)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nsjail: started: /usr/bin/redis-server*", "--- stdout", "*Ready to accept connections"])

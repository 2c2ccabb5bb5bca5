"""S7: servers on the same port at once, each in a network of its own; nobody chose a port by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import redis as redis_client

from pytest_nsjail import Listening, Log


def test_s7_two_redis(nsjail_start, redis):
    servers = [nsjail_start([], image=redis, publish={6379: 0}, ready=Listening(6379)) for _ in range(2)]
    clients = [redis_client.Redis(*server.ports[6379]) for server in servers]
    for number, client in enumerate(clients):
        client.set("number", number)
    assert [client.get("number") for client in clients] == [b"0", b"1"]
    for client in clients:
        client.close()


def test_s7_ten_postgresql_on_port_5432(nsjail_start, postgres):
    def start(number):
        server = nsjail_start([], image=postgres, hostname=f"db{number}", publish={5432: 0}, ready=Log("ready to accept connections"))
        host, port = server.ports[5432]
        return psycopg.connect(host=host, port=port, user="postgres", dbname="postgres", autocommit=True)

    with ThreadPoolExecutor(10) as pool:
        connections = list(pool.map(start, range(10)))
    for number, connection in enumerate(connections):
        connection.execute(f"CREATE TABLE only_in_{number} ()")
    for number, connection in enumerate(connections):
        tables = connection.execute("SELECT tablename, inet_server_port() FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert tables == [(f"only_in_{number}", 5432)]
        connection.close()

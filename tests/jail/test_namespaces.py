"""Namespaces of its own, for every jail; and whoever enters a running jail is in the same ones."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import pytest

from pytest_nsjail.errors import ProgramFailed, SetupError
from pytest_nsjail.jail.status import Exited, Signaled, TimedOut
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.spec.limits import Limits

KINDS = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")


def _own() -> dict[str, str]:
    return {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}


def test_every_namespace_differs_from_the_hosts_and_from_the_next_jails(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box) as one, runtime.start(["sleep", "60"], image=box) as other:
        # Both at once: the kernel gives the number of a namespace that is gone to the next.
        seen = [json.loads(jail.run(["probe"], check=True).stdout)["namespaces"] for jail in (one, other)]
    for kind in KINDS:
        assert len({seen[0][kind], seen[1][kind], _own()[kind]}) == 3, kind


def test_who_enters_a_jail_has_the_same_surroundings(runtime: Runtime, box: Image):
    limits = Limits(open_files=77, file_size="1M", cpu_seconds=50)
    with runtime.start(["sh", "-c", "probe; sleep 60"], image=box, env={"ONE": "1"}, workdir="/data", user=500, limits=limits, hostname="here") as jail:
        deadline = time.monotonic() + 10
        while not jail.stdout.endswith("}\n") and time.monotonic() < deadline:
            time.sleep(0.002)
        main, entered = json.loads(jail.stdout), json.loads(jail.run(["probe"], check=True).stdout)
        same = ("namespaces", "env", "rlimits", "cwd", "uid", "gid", "umask", "no_new_privs", "ignored", "tty", "mounts")
        for found in (main, entered):
            found["env"] = sorted(one for one in found["env"] if not one.startswith(("PWD=", "SHLVL=", "OLDPWD=")))  # the shell's own
        assert {key: entered[key] for key in same} == {key: main[key] for key in same}
        assert sorted(entered["fds"]) == ["0", "1", "2"]
        assert entered["ppid"] == 1
        assert entered["sid"] == entered["pid"]
        assert jail.run(["hostname"]).stdout == "here\n"


def test_who_enters_can_be_told_otherwise(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box, env={"ONE": "1", "TWO": "2"}) as jail:
        found = json.loads(jail.run(["probe"], env={"TWO": "zwei"}, workdir="/data", stdin="x").stdout)
        assert sorted(found["env"]) == ["ONE=1", "PATH=/bin", "TWO=zwei"]
        assert found["cwd"] == "/data"
        assert jail.run(["cat"], stdin="in\n").stdout == "in\n"
        assert jail.run(["sh", "-c", "exit 4"]).status == Exited(4)
        assert jail.run(["sh", "-c", "kill -9 $$"]).status == Signaled(9)
        assert jail.run(["sleep", "60"], timeout=0.05).status == TimedOut(0.05, Signaled(15))
        with pytest.raises(ProgramFailed, match="exited with 9"):
            jail.run(["sh", "-c", "exit 9"], check=True)


def test_a_timeout_of_who_entered_leaves_the_main_program_alone(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box) as jail:
        assert isinstance(jail.run(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], timeout=0.05).status, TimedOut)
        assert jail.run(["true"]).ok
        assert jail.processes()[0].argv == ("sleep", "60")


def test_who_entered_sees_the_main_programs_files_and_processes(runtime: Runtime, box: Image):
    with runtime.start(["sh", "-c", "echo mine >/data/mine; echo up; sleep 60"], image=box) as jail:
        while not jail.stdout:
            time.sleep(0.002)
        assert jail.run(["cat", "/data/mine"]).stdout == "mine\n"
        assert "sleep 60" in jail.run(["ps"]).stdout
        jail.run(["sh", "-c", "echo theirs >/data/theirs"])
        changes = jail.stop().changes
        assert (changes.read_text("/data/mine"), changes.read_text("/data/theirs")) == ("mine\n", "theirs\n")


def test_a_main_program_that_ends_takes_who_entered_along(runtime: Runtime, box: Image):
    jail = runtime.start(["sleep", "0.2"], image=box)
    with pytest.raises(SetupError, match="has ended"):
        jail.run(["sleep", "60"])
    assert jail.wait().status == Exited(0)
    assert [process.argv for process in jail.wait().leftovers] == [("sleep", "60")]
    with pytest.raises(SetupError, match="has ended"):
        jail.run(["true"])


def test_threads_share_a_jail(runtime: Runtime, box: Image):
    codes: list[tuple[int, int | None]] = []
    ends: list[object] = []
    with runtime.start(["sh", "-c", "read line; exit 7"], image=box, stdin="go\n") as short, runtime.start(["sleep", "60"], image=box) as jail:

        def enter(number: int) -> None:
            for _ in range(8):
                codes.append((number, jail.run(["sh", "-c", f"exit {number}"]).returncode))
                jail.processes()

        threads = [threading.Thread(target=enter, args=(number,), daemon=True) for number in range(5)]
        threads += [threading.Thread(target=lambda one=one: ends.append(one.wait().status), daemon=True) for one in (short, jail)]
        for thread in threads:
            thread.start()
        for thread in threads[:-1]:
            thread.join(20)
        assert sorted(codes) == sorted([(number, number) for number in range(5)] * 8)
        assert ends == [Exited(7)]
        jail.signal(15)
        threads[-1].join(20)
        assert ends == [Exited(7), Signaled(15)]


def test_a_jail_that_is_closed_by_another_thread_keeps_nobody_waiting(runtime: Runtime, box: Image):
    jail = runtime.start(["sleep", "60"], image=box)
    told: list[str] = []

    def wait() -> None:
        try:
            jail.wait()
        except SetupError as error:
            told.append(str(error))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    time.sleep(0.05)
    jail.close()
    thread.join(10)
    assert len(told) == 1


def test_the_hostname_is_the_jails_own(sh):
    before = socket.gethostname()
    assert sh("hostname").stdout == "nsjail\n"
    assert sh("hostname; hostname changed", hostname="db.test").stdout == "db.test\n"
    assert sh("hostname", hostname="a" * 64).stdout == "a" * 64 + "\n"
    assert socket.gethostname() == before


# Network


def test_without_a_network_there_is_loopback_and_no_way_out(runtime: Runtime, box: Image):
    for user in (None, 500):
        found = json.loads(runtime.run(["probe", "network"], image=box, user=user).stdout)
        assert [found[what] for what in ("bind v4", "bind v6", "connect v4", "connect v6")] == ["done"] * 4, user
        assert found["refused"] == "ECONNREFUSED"
        assert (found["out"], found["out udp"]) == ("ENETUNREACH", "ENETUNREACH")
        assert found["packets"] == "EPERM"


def test_only_loopback_is_there(sh):
    # Besides what the kernel's own modules put into every network namespace, down: tunl0, sit0.
    result = sh("busybox ip -o link | busybox grep -c UP; cat /proc/net/route | wc -l")
    assert result.stdout == "1\n1\n", result.report()


def test_two_jails_listen_on_one_port(runtime: Runtime, box: Image):
    serve = ["sh", "-c", "busybox httpd -f -p 8080 -h /data"]
    with runtime.start(serve, image=box) as one, runtime.start(serve, image=box) as other:
        for jail in (one, other):
            script = "until busybox wget -q -O - http://127.0.0.1:8080/kept; do sleep 0.01; done"
            assert jail.run(["sh", "-c", script], timeout=10).stdout == "kept\n"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 8080), timeout=1).close()


def test_abstract_sockets_of_the_host_are_not_there(sh):
    name = f"nsjail-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        assert sh(f"probe say @{name} x").stdout == "ECONNREFUSED\n"


def test_with_the_hosts_network_the_host_is_there(sh, facts):
    assert facts(network="host")["namespaces"]["net"] == _own()["net"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        received = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"hello from the host\n")
                received.append(True)

        thread = threading.Thread(target=serve)
        thread.start()
        result = sh(f"nc 127.0.0.1 {port}", network="host", timeout=10)
        thread.join()
    assert result.stdout == "hello from the host\n", result.report()


def test_both_kinds_of_network_take_turns(facts):
    own = _own()["net"]
    for kind in ("host", "none", "none", "host", "host", "none"):
        assert (facts(network=kind)["namespaces"]["net"] == own) == (kind == "host")

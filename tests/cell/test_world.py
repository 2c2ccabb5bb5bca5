"""The world of an isolated test, as a process that was forked into it finds it."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_nsjail.errors import SpecError, Unsupported
from pytest_nsjail.jail.status import Exited, OutOfMemory, Signaled
from pytest_nsjail.kernel import syscall, wire
from pytest_nsjail.kernel.hierarchy import own_hierarchy
from pytest_nsjail.spec.dependency import Elf, Text, Users
from pytest_nsjail.spec.isolated import IsolatedSpec
from pytest_nsjail.spec.limits import Limits


def test_it_is_number_2_and_sees_its_own_processes_alone(inside):
    assert inside(lambda: [os.getpid(), os.getppid(), sorted(name for name in os.listdir("/proc") if name.isdigit())]).value == [2, 0, ["1", "2"]]


def test_it_is_who_pytest_is(inside):
    who = [os.getuid(), os.getgid(), os.geteuid()]
    assert inside(lambda: [os.getuid(), os.getgid(), os.geteuid()]).value == who


def test_its_files_are_its_own(inside, project):
    def own() -> list[int]:
        status = Path("file").stat()
        return [status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)]

    assert inside(own).value == own()


def test_a_plain_user_gains_no_capability(inside):
    def effective() -> int:
        return next(int(line.split()[1], 16) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))

    assert bool(inside(effective).value) == (os.getuid() == 0)


def test_a_file_without_permission_stays_so_for_a_plain_user(inside, project):
    (project / "file").chmod(0)
    assert (inside(lambda: Path("file").read_text()).value == "old\n") == (os.getuid() == 0)


def test_the_hosts_files_are_there_and_read_only(inside):
    def write(path: str) -> str:
        try:
            Path(path).write_text("x")
        except OSError as error:
            return error.strerror or ""
        return "written"

    assert inside(lambda: [Path("/etc/passwd").read_text() != "", write("/etc/nsjail-test"), write("/usr/nsjail-test")]).value == [
        True, *[os.strerror(30)] * 2,
    ]


@pytest.mark.parametrize("directory", ["/var/tmp", "/dev/shm", tempfile.gettempdir()])
def test_the_shared_directories_are_empty_and_writable(inside, directory, request):
    mine = Path(directory) / f"nsjail-mine-{os.getpid()}"
    mine.write_text("host's")
    request.addfinalizer(mine.unlink)

    def look() -> list[object]:
        there = mine.exists()
        Path(directory, "file").write_text("x")
        return [there, Path(directory, "file").read_text(), oct(os.stat(directory).st_mode & 0o7777)]

    assert inside(look).value == [False, "x", "0o1777"]
    assert not Path(directory, "file").exists()


def test_home_is_fresh_empty_and_its_own(inside):
    def look() -> list[object]:
        home = Path.home()
        listed = [os.listdir(home), os.stat(home).st_uid, oct(stat.S_IMODE(os.stat(home).st_mode))]
        Path(os.environ["XDG_CACHE_HOME"], "x").mkdir(parents=True)
        return [*listed, os.environ["XDG_CONFIG_HOME"].startswith(str(home)), os.access(os.environ["XDG_RUNTIME_DIR"], os.W_OK)]

    for _ in range(2):
        assert inside(look).value == [[], os.getuid(), "0o700", True, True]


def test_of_the_real_home_only_what_the_interpreter_needs_is_in_sight(inside, runtime):
    real = os.path.expanduser("~")

    def look() -> list[str]:
        return os.listdir(real)

    held = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, *sys.path)}
    for name in inside(look).value:
        assert any(path.startswith(os.path.join(os.path.realpath(real), name)) for path in held) or os.path.realpath(os.path.join(real, name)) in held, name


def test_the_project_is_there_and_what_is_written_to_it_is_gone_and_told(inside, project):
    def change() -> list[str]:
        Path("file").write_text("new\n")
        Path("made").write_text("made\n")
        os.unlink("sub/other")
        return [os.getcwd(), Path("file").read_text(), *sorted(os.listdir())]

    ran = inside(change)
    assert ran.value == [str(project), "new\n", "file", "made", "sub"]
    assert (project / "file").read_text() == "old\n"
    assert ((project / "made").exists(), (project / "sub" / "other").exists()) == (False, True)
    ending = ran.ending
    assert (ending.added, ending.modified, ending.deleted) == ((f"{project}/made",), (f"{project}/file",), (f"{project}/sub/other",))
    assert ending.read_bytes(f"{project}/made") == b"made\n"


def test_a_writable_place_is_the_hosts(inside, project):
    keep = project.parent / "keep"
    ran = inside(lambda: (keep / "kept").write_text("kept"))
    assert (keep / "kept").read_text() == "kept"
    assert (ran.ending.added, ran.ending.modified) == ((), ())


def test_a_declared_writable_directory_is_the_hosts(inside, project):
    assert inside(lambda: Path("sub/more").write_text("x"), writable=[project / "sub"]).ending.added == ()
    assert (project / "sub" / "more").read_text() == "x"


def test_its_network_is_its_own(inside):
    def serve() -> list[object]:
        with socket.create_server(("127.0.0.1", 80)) as server, socket.create_connection(server.getsockname()):
            return [name for _, name in socket.if_nameindex()]

    assert inside(serve).value == ["lo"]


def test_the_hosts_network_where_it_was_asked_for(inside):
    here = os.readlink("/proc/self/ns/net")
    assert inside(lambda: os.readlink("/proc/self/ns/net"), network="host").value == here
    assert inside(lambda: os.readlink("/proc/self/ns/net")).value != here


def test_its_name_is_its_own(inside):
    before = socket.gethostname()
    assert inside(socket.gethostname, hostname="db.test").value == "db.test"
    if os.getuid() == 0:
        assert inside(lambda: [socket.sethostname("mine"), socket.gethostname()]).value == [None, "mine"]
    assert socket.gethostname() == before


def test_it_gains_no_privilege_by_a_program(inside):
    assert "NoNewPrivs:\t1" in inside(lambda: Path("/proc/self/status").read_text()).value


def test_its_end_is_told_by_a_signal_too(inside):
    assert inside(lambda: os.kill(os.getpid(), signal.SIGUSR1)).ending.status == Signaled(signal.SIGUSR1)
    assert inside(lambda: os.kill(os.getpid(), signal.SIGKILL)).ending.status == Signaled(signal.SIGKILL)
    assert inside(lambda: os._exit(3)).ending.status == Exited(3)


def test_whom_it_leaves_is_told_and_killed(inside):
    def leave() -> None:
        for flags in ({}, {"start_new_session": True}):
            subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"], **flags)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        os.wait()

    leftovers = inside(leave).ending.leftovers
    assert len(leftovers) == 3
    for process in leftovers:
        assert not os.path.exists(f"/proc/{process.host_pid}")


def test_to_kill_all_one_sees_is_to_kill_oneself_at_most(inside):
    def kill() -> str:
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                os.kill(int(name), signal.SIGTERM)
        return "alive"

    assert inside(kill).value in ("alive", "PermissionError: [Errno 1] Operation not permitted")


def test_its_variables(inside, monkeypatch):
    monkeypatch.setenv("NSJAIL_TEST", "outer")
    assert inside(lambda: [os.environ["NSJAIL_TEST"], os.environ["MORE"]], env={"MORE": "more"}).value == ["outer", "more"]
    assert inside(lambda: os.environ["NSJAIL_TEST"], env={"NSJAIL_TEST": "inner"}).value == "inner"


def test_who_else_it_can_be(inside):
    assert inside(lambda: [os.getuid(), os.getgid(), os.access(os.environ["HOME"], os.W_OK)], user=1234).value == [1234, 1234, True]
    name = pwd.getpwuid(os.getuid()).pw_name
    assert inside(os.getuid, user=name).value == os.getuid()


def test_its_limits(inside):
    assert inside(lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0], limits=Limits(open_files=50)).value == 50
    if "memory" in dict(found.directories if (found := own_hierarchy()) else ()):
        ran = inside(lambda: len(bytearray(1 << 28)), limits=Limits(memory="128M"))
        assert isinstance(ran.ending.status, OutOfMemory)
    else:
        with pytest.raises(Unsupported):
            inside(os.getpid, limits=Limits(memory="128M"))


@pytest.mark.parametrize("bad", [{"network": "bridge"}, {"writable": ["relative"]}, {"limits": 3}, {"timeout": 0}, {"image": "x"}, {"hostname": "a b"}])
def test_what_cannot_be_meant_is_refused(inside, bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        inside(os.getpid, **bad)


def test_nothing_of_the_jails_own_making_is_in_sight(inside):
    assert [line for line in inside(lambda: Path("/proc/self/mounts").read_text()).value.splitlines() if "/stage" in line] == []


def test_an_image_is_its_root_with_this_interpreter_in_it(inside, runtime, project):
    image = runtime.image(Elf("/bin/busybox"), Text("/etc/greeting", "hello\n"), Users(nodeuser=500), env={"FROM": "image"})

    def look() -> list[object]:
        import ctypes
        import sqlite3
        import ssl

        Path("made").write_text("x")
        Path("/etc/written").write_text("x")
        told = subprocess.run([sys.executable, "-c", "import ssl, json; print(json.dumps(1))"], capture_output=True, text=True)
        return [
            sorted(os.listdir("/etc")), os.path.exists("/usr/bin/env"), Path("file").read_text(), told.stdout + told.stderr,
            bool(ssl.OPENSSL_VERSION and ctypes and sqlite3), os.listdir(os.environ["HOME"]), Path("/tmp").is_dir(),
        ]

    for _ in range(3):
        ran = inside(look, image=image.spec)
        assert ran.value[1:] == [False, "old\n", "1\n", True, [], True], ran
        assert {"greeting", "passwd", "group"} <= set(ran.value[0])
        assert f"{project}/made" in ran.ending.added
        assert "/etc/written" in ran.ending.added
        assert ran.ending.read_bytes("/etc/written") == b"x"
    assert inside(lambda: [pwd.getpwnam("nodeuser").pw_uid, os.environ["FROM"]], image=image.spec).value == [500, "image"]


def test_a_program_in_a_jail_beside_it(inside, runtime):
    def run() -> list[object]:
        first = runtime.run(["/bin/busybox", "sh", "-c", "echo $$; hostname"], hostname="beside")
        image = runtime.image(Elf("/bin/busybox", "/bin/sh"), Text("/made", f"{os.getpid()} {time.monotonic_ns()}\n"))
        second = runtime.run(["/bin/sh", "-c", "read a </made; echo ${a%% *}; exit 3"], image=image)
        with runtime.start(["/bin/busybox", "sleep", "60"]) as jail:
            return [first.stdout, second.stdout, second.returncode, len(jail.processes())]

    for _ in range(3):
        assert inside(run).value == ["2\nbeside\n", "2\n", 3, 1]
        assert runtime.run(["/bin/busybox", "true"]).ok


def test_a_network_of_jails_beside_it(inside, runtime):
    """It has no power over any network of its own or another's, but for what the inits do for it."""

    def run() -> list[object]:
        with runtime.network() as net, ExitStack() as jails:
            a, b = (jails.enter_context(runtime.start(["/bin/busybox", "sleep", "60"], network=net, name=name)) for name in "ab")
            found: list[object] = []
            for change, within in ((lambda: None, 10), (lambda: net.isolate(a), 0.5), (net.heal, 10),
                                   (lambda: net.shape(a, delay=0.001, rate="10M"), 10), (lambda: net.shape(a), 10)):
                change()
                with b.listen(80, udp=True) as server, a.socket(type=socket.SOCK_DGRAM) as client:
                    server.settimeout(within)
                    client.sendto(b"x", (b.address, 80))
                    try:
                        found.append(server.recv(1).decode())
                    except TimeoutError:
                        found.append(None)
            return found

    assert inside(run).value == ["x", None, "x", "x", "x"]


def test_a_jail_that_it_started_ends_with_it(inside, runtime):
    def start() -> list[object]:
        jail = runtime.start(["/bin/busybox", "sleep", "600"])
        # It is in another jail, and has no number here.
        return [os.stat("/proc/self/ns/pid").st_ino, jail.host_pid, jail.run(["/bin/busybox", "readlink", "/proc/self/ns/pid"]).stdout]

    mine, pid, theirs = inside(start).value
    assert pid == 0
    assert str(mine) not in theirs
    deadline = time.monotonic() + 5
    while (left := _in_namespace(theirs.strip())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []


def _in_namespace(name: str) -> list[str]:
    found = []
    for pid in os.listdir("/proc"):
        try:
            if pid.isdigit() and os.readlink(f"/proc/{pid}/ns/pid") == name:
                found.append(pid)
        except OSError:
            pass
    return found


def test_what_is_mounted_below_the_project_is_seen_or_said(tmp_path, request):
    script = """
import os, subprocess, sys
from pytest_nsjail.errors import NsjailError
from pytest_nsjail.kernel import wire
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.spec.isolated import IsolatedSpec
project = sys.argv[1] + "/with blank"
os.makedirs(project + "/below")
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", project + "/below"], check=True)
open(project + "/below/file", "w").write("mounted")
with Runtime(sys.argv[1] + "/store") as runtime:
    try:
        cell = runtime.cell(IsolatedSpec.declared(), project=project, writable=[])
    except NsjailError as error:
        sys.exit(print(error))
    if cell.fork():
        wire.send(cell.channel, {"found": open(project + "/below/file").read(), "writable": os.access(project + "/below", os.W_OK)})
        os._exit(0)
    print(wire.receive(cell.channel).body)
    cell.end()
"""
    unshare = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    ran = subprocess.run([*unshare, sys.executable, "-c", script, tmp_path], capture_output=True, text=True, timeout=60)
    assert "mounted" in ran.stdout, ran
    if os.getuid() == 0:
        assert ran.stdout == "{'found': 'mounted', 'writable': False}\n"


@pytest.mark.parametrize("before", [False, True])
def test_the_child_is_this_processs_own_and_nobody_elses_children_are(runtime, project, before):
    syscall.prctl(syscall.PR_SET_CHILD_SUBREAPER, int(before))
    try:
        cell = runtime.cell(IsolatedSpec.declared(), project=str(project), writable=[])
        if cell.fork():
            try:
                wire.send(cell.channel, {"subreaper": syscall.is_subreaper()})
                wire.receive(cell.channel)
            finally:
                os._exit(7)
        said = cell.receive()
        status = Path(f"/proc/{cell.pid}/status").read_text()
        assert f"PPid:\t{os.getpid()}\n" in status
        assert (said.body["subreaper"], syscall.is_subreaper()) == (False, before)
        wire.send(cell.channel, {})
        assert cell.end().status == Exited(7)
    finally:
        syscall.prctl(syscall.PR_SET_CHILD_SUBREAPER, 0)


def test_the_child_has_no_descriptor_but_of_its_parents_files(inside):
    """None of its jail's, and none of the way in."""
    def held() -> list[str]:
        return [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]

    inside(lambda: None)
    before = held()
    found = inside(held).value
    more = [one for one in found if one not in before and not one.startswith(("socket:", "pipe:", "anon_inode:", "/proc/"))]
    assert more == []
    assert not any(one.startswith(("mnt:", "user:", "pid:", "net:", "ipc:", "uts:", "cgroup:")) for one in found)

"""Nothing is left behind: after an end, a failure, an interruption, and the death of pytest at any moment."""

from __future__ import annotations

import errno
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from pytest_nsjail.errors import NsjailError, SetupError
from pytest_nsjail.kernel.hierarchy import own_hierarchy
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.spec.limits import Limits
from pytest_nsjail.spec.mount import Bind, Tmpfs

# A session that makes jails of every kind until it is killed. Its processes are known by this variable, which only they have.
BUSY = """
import sys
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.spec.limits import Limits
from pytest_nsjail.spec.mount import Tmpfs
number = 0
with Runtime(sys.argv[1]) as runtime:
    while True:
        number += 1
        limits = Limits(memory="64M", processes=30)
        held = [runtime.start(["/bin/busybox", "sleep", "1000"], limits=limits, user=500) for _ in range(2)]
        runtime.run(["/bin/busybox", "sh", "-c", "/bin/busybox sleep 1000 & echo x >/file"], mounts=[Tmpfs("/mnt", size="1M")])
        held[0].run(["/bin/busybox", "true"])
        for jail in held:
            jail.stop(grace=0)
        print(number, flush=True)
"""


def _processes() -> dict[int, tuple[int, str]]:
    """Every process of this user: its parent, and its name."""
    found = {}
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid in (os.geteuid(), 0):
                fields = Path(f"/proc/{name}/stat").read_text()
                rest = fields.rpartition(")")[2].split()
                if rest[0] not in "ZX":
                    found[int(name)] = int(rest[1]), fields.partition("(")[2].rpartition(")")[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _below(pid: int) -> set[int]:
    parents = {process: parent for process, (parent, _) in _processes().items()}
    found, todo = set(), [pid]
    while todo:
        here = todo.pop()
        children = {process for process, parent in parents.items() if parent == here}
        todo += children - found
        found |= children
    return found


def _groups(session: int) -> list[str]:
    found = own_hierarchy()
    directories = {directory for _, directory in found.directories} if found else set()
    return [entry.path for directory in directories for entry in os.scandir(directory) if entry.name.startswith(f"pytest-nsjail-{session}-")]


def _mounts() -> list[str]:
    # Others mount here too while this test runs, but none of them below a store.
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "nsjail" in line or "/stage" in line]


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """The $TMPDIR of a session: what it leaves there is seen."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    yield directory
    assert os.listdir(directory) == []


def _wait_until_gone(pids: set[int]) -> set[int]:
    deadline = time.monotonic() + 15
    while (left := {pid for pid in pids if pid in _processes()}) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


@pytest.mark.parametrize("turn", range(12))
def test_a_kill_of_pytest_at_any_moment_leaves_nothing(tmp_path, scratch, turn):
    generator = random.Random(turn)
    store = tmp_path / "store"
    before = _mounts()
    session = subprocess.Popen([sys.executable, "-c", BUSY, store], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "TMPDIR": str(scratch)}, text=True)
    assert session.stdout
    assert session.stderr
    # Half of them while the first jail is made, which is where most is done for the first time.
    if turn % 2:
        assert session.stdout.readline() == "1\n", session.stderr.read()
    else:
        time.sleep(0.1)
    until, seen = time.monotonic() + generator.uniform(0, 0.3), set()
    while time.monotonic() < until:
        seen |= _below(session.pid)
    os.kill(session.pid, signal.SIGSTOP)  # so that what is below it now is all there will ever be
    seen |= _below(session.pid)
    session.kill()
    session.communicate()
    assert _wait_until_gone(seen) == set()
    deadline = time.monotonic() + 5
    while _groups(session.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _groups(session.pid) == []
    assert _mounts() == before
    # What a kill left in the store is nobody's hindrance.
    with Runtime(str(store)) as runtime:
        assert runtime.run(["/bin/busybox", "true"]).ok
    assert os.listdir(store / "stage") == []


def test_a_kill_of_the_keeper_leaves_no_jail(tmp_path):
    with Runtime(str(tmp_path)) as runtime:
        jail = runtime.start(["/bin/busybox", "sleep", "1000"])
        assert jail.host_pid
        seen = _below(os.getpid())
        keeper = next(pid for pid in seen if _processes().get(pid, (0, ""))[1] == "nsjail-keeper" and jail.host_pid in _below(pid))
        below = _below(keeper)
        os.kill(keeper, signal.SIGKILL)
        assert _wait_until_gone(below) == set()
        with pytest.raises(SetupError):
            jail.wait()


def test_a_kill_of_the_zygote_is_an_error_and_no_outcome(tmp_path):
    with Runtime(str(tmp_path)) as runtime:
        jail = runtime.start(["/bin/busybox", "sleep", "1000"])
        zygote = next(pid for pid in _below(os.getpid()) if _processes().get(pid, (0, ""))[1] == "nsjail-zygote" and jail.host_pid in _below(pid))
        os.kill(zygote, signal.SIGKILL)
        with pytest.raises(SetupError, match="zygote"):
            jail.wait()
        assert runtime.run(["/bin/busybox", "true"]).ok, "it is replaced"


def test_a_kill_of_the_init_is_an_error_and_no_outcome(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "1000"], image=box) as jail:
        main = jail.host_pid
        init = _processes()[main][0]
        below = {main, *_below(init)}
        os.kill(init, signal.SIGKILL)
        with pytest.raises(SetupError, match="killed from outside"):
            jail.wait()
        assert _wait_until_gone(below) == set()
        with pytest.raises(SetupError, match="closed"):
            jail.wait()
    assert runtime.run(["true"], image=box).ok


def test_leaving_a_runtime_ends_its_jails(tmp_path):
    with Runtime(str(tmp_path)) as runtime:
        jails = [runtime.start(["/bin/busybox", "sleep", "1000"]) for _ in range(3)]
        pids = {jail.host_pid for jail in jails}
    assert _wait_until_gone(pids) == set()
    for jail in jails:
        with pytest.raises(SetupError):
            jail.wait()
    assert os.listdir(tmp_path / "stage") == []


def test_an_interrupted_wait_ends_the_jail(tmp_path):
    script = """
import sys
from pytest_nsjail.runtime import Runtime
with Runtime(sys.argv[1]) as runtime:
    with runtime.start(["/bin/busybox", "sh", "-c", "trap '' TERM; while :; do /bin/busybox sleep 1; done"]) as jail:
        print(jail.host_pid, flush=True)
        jail.wait()
"""
    session = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert session.stdout
    pid = int(session.stdout.readline())
    below = {pid, *_below(session.pid)}
    session.send_signal(signal.SIGINT)
    _, said = session.communicate(timeout=20)
    assert "KeyboardInterrupt" in said
    assert _wait_until_gone(below) == set()


def test_hundreds_of_runs_leave_the_host_as_it_was(runtime: Runtime, box: Image, tmp_path):
    def host() -> tuple[object, ...]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), len(_below(os.getpid())), _mounts(), sorted(os.listdir("/dev/shm")), os.listdir(tmp_path)

    def some(number: int) -> None:
        for turn in range(number):
            runtime.run(["sh", "-c", f"echo x >/file; exit {turn % 256}"], image=box)
        runtime.run(["sh", "-c", "sleep 60 & :"], image=box, stdin=b"x", limits=Limits(memory="64M", processes=20), user=500)
        runtime.run(["sh", "-c", ":"], image=box, mounts=[Tmpfs("/mnt"), Bind(tmp_path, "/ro")], network="host", read_only=True)
        with pytest.raises(NsjailError):
            runtime.run(["absent"], image=box)
        with runtime.start(["sleep", "60"], image=box) as jail:
            jail.run(["true"])

    def settled() -> tuple[object, ...]:
        # The init of a jail that has just ended may still be on its way.
        last = None
        while (now := host()) != last:
            last = now
            time.sleep(0.2)
        return now

    some(3)
    before = settled()
    some(300)
    assert settled() == before


def test_a_failure_while_a_jail_is_made_leaves_nothing(runtime: Runtime, box: Image, tmp_path):
    (tmp_path / "locked").mkdir()
    runtime.run(["true"], image=box)
    before = len(os.listdir("/proc/self/fd")), len(_below(os.getpid()))
    for _ in range(5):
        with pytest.raises(NsjailError):
            # The target cannot be made: its parent is a device.
            runtime.run(["true"], image=box, mounts=[Bind(tmp_path, "/dev/zero/below")], limits=Limits(memory="64M"))
    gc.collect()
    assert runtime.run(["true"], image=box).ok
    assert len(os.listdir("/proc/self/fd")) <= before[0]
    # Two spares with what waits in them, and whoever is on its way out.
    deadline = time.monotonic() + 5
    while len(_below(os.getpid())) > before[1] + 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(_below(os.getpid())) <= before[1] + 2
    assert [path for group in _groups(os.getpid()) for path in os.listdir(group) if os.path.isdir(f"{group}/{path}")] == []


def test_many_jails_live_at_once(runtime: Runtime, box: Image):
    jails = [runtime.start(["sh", "-c", f"read line; exit {number}"], image=box, stdin=None if number % 2 else b"") for number in range(40)]
    assert [jail.wait().returncode for jail in jails] == list(range(40))


def test_a_forked_child_of_pytest_that_ends_takes_no_jail_along(tmp_path):
    with Runtime(str(tmp_path)) as runtime:
        jail = runtime.start(["/bin/busybox", "sh", "-c", "/bin/busybox sleep 0.3; exit 4"])
        assert jail.host_pid
        child = os.fork()
        if child == 0:
            runtime.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert jail.wait().returncode == 4
        assert runtime.run(["/bin/busybox", "true"]).ok


def test_kept_results_hold_a_descriptor_each_for_what_was_written_and_none_else(runtime: Runtime, box: Image):
    runtime.run(["true"], image=box)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    kept = [runtime.run(["true"], image=box) for _ in range(10)]
    assert len(os.listdir("/proc/self/fd")) == before
    kept += [runtime.run(["touch", "/x"], image=box) for _ in range(10)]
    assert len(os.listdir("/proc/self/fd")) == before + 10


def test_a_layer_that_cannot_be_taken_is_closed_and_only_once(runtime: Runtime, box: Image, monkeypatch: pytest.MonkeyPatch):
    for _ in range(3):
        runtime.run(["true"], image=box)  # as often as it takes to have every spare
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))

    def full(root: int | str) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr("pytest_nsjail.image.changes.RootedView", full)
        with pytest.raises(OSError, match="Too many open files"):
            runtime.run(["touch", "/x"], image=box)
    gc.collect()  # a second close is EBADF in a finalizer, of which pytest makes an error
    assert len(os.listdir("/proc/self/fd")) == before

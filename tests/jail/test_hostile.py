"""Programs that work against their jail: none breaks its init, gets around its clocks, or leads the next program astray."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_nsjail.errors import SetupError
from pytest_nsjail.jail import processes
from pytest_nsjail.jail.command import REHEARSAL
from pytest_nsjail.jail.pump import Pump
from pytest_nsjail.jail.run import Run
from pytest_nsjail.jail.status import OutOfMemory, TimedOut
from pytest_nsjail.kernel.hierarchy import own_hierarchy
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.spec.limits import Limits


def _until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_program_that_left_its_user_namespace_takes_nobody_along(runtime: Runtime, box: Image):
    with runtime.start(["busybox", "unshare", "-U", "sh", "-c", "echo there; sleep 60; :"], image=box) as jail:
        _until(lambda: jail.stdout)
        result = jail.run(["cat", "/proc/self/uid_map"])
        assert (result.ok, bool(result.stdout)) == (True, True), result.report()


def test_a_layer_that_changes_while_it_is_read(runtime: Runtime, box: Image):
    churn = "while :; do mkdir -p /mnt/a/b/c; : >/mnt/a/b/d; rm -rf /mnt/a; done"
    with runtime.start(["sh", "-c", churn], image=box) as jail:
        for _ in range(200):
            assert jail.run(["true"]).ok


def test_a_flood_of_output_stops_no_clock(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box) as jail:
        began = time.monotonic()
        # Whoever leaves the session outlives it, and keeps its output.
        result = jail.run(["sh", "-c", "for i in 1 2 3 4; do busybox setsid probe flood & done; sleep 60"], timeout=0.3)
        assert isinstance(result.status, TimedOut)
        assert jail.run(["true"], timeout=5).ok
        assert time.monotonic() - began < 5


def test_a_pipe_that_is_always_full_is_left_after_a_while(monkeypatch):
    read, capacity = os.read, 1 << 16

    def refilled(fd: int, size: int) -> bytes:
        data = read(fd, size)
        assert os.write(into, data) == len(data)
        return data

    for move, most in (("carry", 16 * capacity), ("drain", capacity)):
        out, into = os.pipe()
        os.write(into, bytes(capacity))
        target = os.memfd_create("target")
        monkeypatch.setattr(os, "read", refilled)
        getattr(Pump(out, target, outward=True), move)()
        monkeypatch.undo()
        assert os.fstat(target).st_size == most
        for fd in (out, into, target):
            os.close(fd)


def test_all_that_was_written_before_the_end_arrives_though_others_write_on(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box) as jail:
        assert jail.run(["sh", "-c", "head -c 300000 /dev/zero; busybox setsid yes y & sleep 0.1"]).stdout_bytes.count(0) == 300_000


def test_a_member_of_a_session_that_ends_before_its_kill_is_no_error(monkeypatch):
    gone = subprocess.Popen(["true"])
    gone.wait()
    alive = subprocess.Popen(["sleep", "60"])
    late = subprocess.Popen(["sleep", "60"])
    looks = iter([[gone.pid, alive.pid], [alive.pid, late.pid], []])
    monkeypatch.setattr(processes, "session", lambda leader: next(looks))
    Run(2, alive.pid, REHEARSAL, [], main=False).kill()
    assert (alive.wait(10), late.wait(10)) == (-9, -9)


def test_its_init_cannot_be_made_the_first_to_be_killed(sh):
    result = sh("echo 1000 >/proc/1/oom_score_adj; echo 1000 >/proc/1/task/1/oom_score_adj; cat /proc/1/oom_score_adj; echo 500 >/proc/self/oom_score_adj")
    assert (result.stdout, result.ok) == (Path("/proc/self/oom_score_adj").read_text(), True), result.report()


def test_a_program_that_is_stopped_before_it_is_executed_is_in_time_too(runtime: Runtime, box: Image):
    with runtime.start(["sh", "-c", "while :; do kill -STOP -1; done"], image=box) as jail:
        for _ in range(5):
            began = time.monotonic()
            result = jail.run(["sleep", "60"], timeout=0.05)
            assert isinstance(result.status, TimedOut), result.report()
            assert time.monotonic() - began < 5


def test_a_program_that_is_stopped_before_it_is_executed_keeps_no_jail(runtime: Runtime, box: Image):
    with runtime.start(["sh", "-c", "while :; do kill -STOP -1; done"], image=box) as jail:
        pid = jail.host_pid
        threading.Timer(0.3, jail.close).start()
        with pytest.raises(SetupError, match="closed"):
            jail.run(["sleep", "60"])
        _until(lambda: not os.path.exists(f"/proc/{pid}"))


@pytest.mark.parametrize("memory", [4096, "16K", "64K"])
def test_memory_that_is_over_before_the_program_is_executed_ends_the_program_alone(runtime: Runtime, box: Image, memory):
    result = runtime.run(["true"], image=box, limits=Limits(memory=memory))
    if "memory" in dict(found.directories if (found := own_hierarchy()) else ()):
        assert isinstance(result.status, OutOfMemory), result.report()

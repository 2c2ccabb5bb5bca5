"""S15: a limit that was exceeded is called by its name."""

from __future__ import annotations

import signal

import pytest

from pytest_nsjail import Limits, OutOfMemory, Signaled, TimedOut, Tmpfs

# An isolated test may make no control group.
pytestmark = pytest.mark.isolated(False)


def names(result):
    return [exceeded.limit for exceeded in result.exceeded]


def test_s15_memory(nsjail_run):
    # It waits for the end of a line that never comes.
    result = nsjail_run(["/usr/bin/tail", "/dev/zero"], limits=Limits(memory="64M"), timeout=60)
    assert isinstance(result.status, OutOfMemory)
    assert names(result) == ["memory"]


def test_s15_processes(nsjail_run, busybox):
    # The shell gives up at the first refusal, then waits for those it has.
    crowd = "trap wait EXIT; for number in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done"
    result = nsjail_run(["/bin/busybox", "sh", "-c", crowd], image=busybox, limits=Limits(processes=5), timeout=60)
    assert not result.ok
    assert names(result) == ["processes"]


def test_s15_cpu(nsjail_run, busybox):
    result = nsjail_run(["/bin/busybox", "sh", "-c", "while :; do :; done"], image=busybox, limits=Limits(cpu_seconds=1), timeout=60)
    assert result.status == Signaled(signal.SIGXCPU)
    assert names(result) == ["cpu_seconds"]


def test_s15_file_size(nsjail_run, busybox):
    writing = ["/bin/busybox", "dd", "if=/dev/zero", "of=/tmp/big", "bs=1024", "count=128"]
    result = nsjail_run(writing, image=busybox, limits=Limits(file_size="64K"))
    assert result.status == Signaled(signal.SIGXFSZ)
    assert names(result) == ["file_size"]
    assert nsjail_run(writing, image=busybox, limits=Limits(file_size="128K")).ok


def test_s15_wall_time(nsjail_run, busybox):
    # It ignores the polite signal, and so does its child: both are killed.
    result = nsjail_run(["/bin/busybox", "sh", "-c", "trap '' TERM; sleep 60 & sleep 60"], image=busybox, timeout=0.5)
    assert isinstance(result.status, TimedOut)
    assert result.status.seconds == 0.5
    assert names(result) == ["timeout"]
    assert result.duration < 30


def test_s15_open_files(nsjail_run):
    result = nsjail_run(["/bin/bash", "-c", "for number in {1..40}; do exec {fd}< /dev/null || exit 9; done"], limits=Limits(open_files=16))
    assert result.returncode == 9
    assert "Too many open files" in result.stderr
    assert names(result) == ["open_files"]


def test_s15_the_size_of_a_tmpfs(nsjail_run, busybox):
    filling = ["/bin/busybox", "dd", "if=/dev/zero", "of=/scratch/big", "bs=1024", "count=2048"]
    result = nsjail_run(filling, image=busybox, mounts=[Tmpfs("/scratch", size="1M")])
    assert not result.ok
    assert "No space left on device" in result.stderr
    assert names(result) == ["space"]


def test_s15_within_the_limits_nothing_is_named(nsjail_run, busybox):
    limits = Limits(memory="64M", processes=5, cpu_seconds=5, file_size="1M", open_files=64)
    result = nsjail_run(["/bin/busybox", "true"], image=busybox, limits=limits, timeout=60)
    assert result.ok
    assert names(result) == []

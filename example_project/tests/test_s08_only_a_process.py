"""S8: a jailed program is a process of the host like any other, under two numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

SLEEP = ["/bin/busybox", "sleep", "60"]


@pytest.mark.isolated(False)  # an isolated test sees no process of the host's
def test_s8_the_host_sees_it_under_another_pid(nsjail_start, busybox):
    jail = nsjail_start(SLEEP, image=busybox)
    [sleeper] = [process for process in jail.processes() if list(process.argv) == SLEEP]
    assert sleeper.host_pid == jail.host_pid
    assert sleeper.host_pid != sleeper.pid

    on_host = Path(f"/proc/{sleeper.host_pid}")
    assert on_host.joinpath("cmdline").read_text().split("\0")[:-1] == SLEEP
    status = dict(line.split(":\t", 1) for line in on_host.joinpath("status").read_text().splitlines())
    # One number for each PID namespace it is in, the host's first, its own last.
    pids = [int(pid) for pid in status["NSpid"].split()]
    assert (pids[0], pids[-1]) == (sleeper.host_pid, sleeper.pid)

    jail.stop()
    assert not on_host.exists()


def test_s8_inside_it_is_alone(nsjail_run, busybox):
    result = nsjail_run(["/bin/busybox", "sh", "-c", "echo $$: /proc/[0-9]*"], image=busybox)
    # Number 1 reaps and forwards signals; number 2 is the program.
    assert result.stdout == "2: /proc/1 /proc/2\n"

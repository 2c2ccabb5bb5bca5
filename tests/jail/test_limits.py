"""Limits: each one holds, and is named when it was reached; one that cannot be held is an error."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from pytest_nsjail.errors import Unsupported
from pytest_nsjail.jail.status import Exited, OutOfMemory, Signaled
from pytest_nsjail.kernel import cgroup
from pytest_nsjail.kernel.hierarchy import own_hierarchy
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.spec.limits import Limits
from pytest_nsjail.spec.mount import Tmpfs

GROUPS = dict(found.directories) if (found := own_hierarchy()) else {}


def _names(result) -> list[str]:
    return [one.limit for one in result.exceeded]


def test_nothing_is_named_where_nothing_was_reached(sh):
    limits = Limits(memory="256M", processes=50, cpu_seconds=10, file_size="1M", open_files=100)
    result = sh("echo x >/tmp/x; true & wait", limits=limits, user=500)
    assert (result.status, result.exceeded) == (Exited(0), ())


# Memory


def test_a_hoarder_is_killed_and_called_so(sh):
    result = sh("probe hoard 300; exit $?", limits=Limits(memory="64M"))
    assert isinstance(result.status, OutOfMemory), result.report()
    assert result.status.limit == 64 << 20
    assert _names(result) == ["memory"]
    assert "out of memory" in repr(result)


def test_a_hoarder_that_is_the_program_itself(runtime: Runtime, box: Image):
    result = runtime.run(["probe", "hoard", "300"], image=box, limits=Limits(memory="64M"))
    assert result.status == OutOfMemory(64 << 20, Signaled(signal.SIGKILL))
    assert result.returncode == -9


def test_the_memory_of_all_processes_counts_together(sh):
    script = "for i in 1 2 3 4; do probe hoard 30 5 & done; wait; exit 1"
    assert isinstance(sh(script, limits=Limits(memory="64M"), timeout=20).status, OutOfMemory)


def test_below_the_limit_is_fine(sh):
    assert sh("probe hoard 40", limits=Limits(memory="64M")).ok


def test_a_hoarder_leaves_its_neighbour_alone(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box, limits=Limits(memory="64M")) as jail:
        assert isinstance(runtime.run(["probe", "hoard", "300"], image=box, limits=Limits(memory="64M")).status, OutOfMemory)
        assert jail.run(["true"]).ok


@pytest.mark.skipif("memory" not in GROUPS, reason="no control group counts memory here")
@pytest.mark.parametrize("ask", [lambda jail: jail.wait(), lambda jail: jail.wait(60), lambda jail: jail.stop()], ids=["wait", "in time", "stop"])
def test_an_init_that_was_lost_where_memory_was_short_is_out_of_memory(runtime: Runtime, box: Image, ask):
    jail = runtime.start(["sh", "-c", "probe hoard 300; echo starved; sleep 60"], image=box, limits=Limits(memory="64M"))
    deadline = time.monotonic() + 20
    while not jail.stdout and time.monotonic() < deadline:
        time.sleep(0.005)
    with open(f"/proc/{jail.host_pid}/stat") as stat:
        init = int(stat.read().rpartition(")")[2].split()[1])
    os.kill(init, signal.SIGKILL)
    while os.path.exists(f"/proc/{init}") and time.monotonic() < deadline:
        time.sleep(0.005)
    result = ask(jail)
    assert (result.status, result.stdout, _names(result)) == (OutOfMemory(64 << 20, Signaled(signal.SIGKILL)), "starved\n", ["memory"])
    assert jail.wait() is result


@pytest.mark.skipif(not GROUPS, reason="no control group can be made here")
def test_a_group_that_is_there_already_is_left_alone():
    hierarchy = own_hierarchy()
    memory, processes = 64 << 20 if "memory" in GROUPS else None, 7 if "pids" in GROUPS else None
    first = cgroup.Group(hierarchy, "0-test", "1", memory=memory, processes=processes)
    try:
        with pytest.raises(FileExistsError):
            cgroup.Group(hierarchy, "0-test", "1", memory=memory, processes=processes)
        doors = first.doors()
        assert doors
        for door in doors:
            os.close(door)
    finally:
        first.remove()
        cgroup.remove_session("0-test")


@pytest.mark.skipif(not GROUPS, reason="no control group can be made here")
def test_two_sessions_of_one_pid_have_groups_of_their_own(box: Image, tmp_path):
    # As two pytests in pid namespaces of their own that share a cgroup mount.
    limits = [Limits(memory="64M", processes=9), Limits(memory="96M", processes=11)]
    with Runtime(str(tmp_path / "a")) as one, Runtime(str(tmp_path / "b")) as other:
        kept, ended = (runtime.start(["/bin/busybox", "sleep", "60"], limits=limit) for runtime, limit in zip((one, other), limits, strict=True))
        with kept, ended:
            assert Path(f"/proc/{kept.host_pid}/cgroup").read_text() != Path(f"/proc/{ended.host_pid}/cgroup").read_text()
        assert (kept.wait().exceeded, ended.wait().exceeded) == ((), ())


def test_who_enters_shares_the_limit(runtime: Runtime, box: Image):
    with runtime.start(["sh", "-c", "sleep 60; :"], image=box, limits=Limits(memory="64M")) as jail:
        result = jail.run(["probe", "hoard", "300"])
        assert not result.ok
        assert _names(result) == ["memory"]


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
def test_files_in_memory_count_where_a_control_group_counts(sh, place):
    result = sh(f"head -c 200000000 /dev/zero >{place}/file; exit $?", limits=Limits(memory="64M"))
    assert ("memory" in _names(result), result.ok) == (("memory" in GROUPS), ("memory" not in GROUPS))


def test_a_program_cannot_raise_its_own_limit(sh):
    script = """
busybox unshare -m sh -c 'mkdir /c && busybox mount -t cgroup -o memory x /c || busybox mount -t cgroup2 x /c; cd /c
for file in memory.memsw.limit_in_bytes memory.limit_in_bytes memory.max; do echo -1 >$file; done'
probe hoard 300; exit $?
"""
    assert isinstance(sh(script, limits=Limits(memory="64M")).status, OutOfMemory)


# Processes


def _countable() -> dict[str, object]:
    """The kernel exempts root from the rlimit: without a control group the limit needs another user."""
    return {} if "pids" in GROUPS or os.geteuid() else {"user": 500}


def test_a_limit_on_processes_holds_and_is_named(sh):
    result = sh("probe breed 30; exit $?", limits=Limits(processes=10), **_countable())
    assert (result.returncode, _names(result)) == (4, ["processes"])
    assert "Resource temporarily unavailable" in result.stderr
    assert len(result.leftovers) < 10


def test_as_many_processes_as_allowed_are_fine(sh):
    result = sh("probe breed 5", limits=Limits(processes=10), **_countable())
    assert (result.status, result.exceeded) == (Exited(0), ())


def test_a_fork_bomb_is_contained(sh):
    result = sh("f() { f | f & }; f; sleep 0.3; exit 1", limits=Limits(processes=20), timeout=10, **_countable())
    assert "processes" in _names(result)
    assert sh("true").ok


def test_two_jails_do_not_count_each_others_processes(runtime: Runtime, box: Image):
    with runtime.start(["sh", "-c", "probe breed 8; sleep 60"], image=box, limits=Limits(processes=12), **_countable()):
        assert runtime.run(["probe", "breed", "8"], image=box, limits=Limits(processes=12), **_countable()).ok


# What an rlimit holds


def test_cpu_time_is_bounded(sh):
    began = time.monotonic()
    result = sh("probe burn 30; exit $?", limits=Limits(cpu_seconds=1))
    assert _names(result) == ["cpu_seconds"]
    assert not result.ok
    assert time.monotonic() - began < 20


def test_a_program_that_ignores_the_first_warning_is_killed(runtime: Runtime, box: Image):
    result = runtime.run(["sh", "-c", "trap '' XCPU; while :; do :; done"], image=box, limits=Limits(cpu_seconds=1))
    assert result.status == Signaled(signal.SIGKILL)
    assert _names(result) == ["cpu_seconds"]


def test_file_size_is_bounded(sh):
    result = sh("head -c 2000000 /dev/zero >/tmp/file; exit $?", limits=Limits(file_size="1M"))
    assert not result.ok
    assert _names(result) == ["file_size"]
    assert len(result.changes.read_bytes("/tmp/file")) == 1 << 20


def test_file_size_is_named_where_the_signal_is_ignored(sh):
    result = sh("trap '' XFSZ; head -c 2000000 /dev/zero >/tmp/file || exit 3", limits=Limits(file_size="1M"))
    assert (result.returncode, _names(result)) == (3, ["file_size"])


def test_output_is_no_file(sh):
    assert len(sh("head -c 2000000 /dev/zero", limits=Limits(file_size="1M")).stdout_bytes) == 2_000_000


def test_open_files_are_bounded(sh):
    result = sh("i=3; while [ $i -lt 60 ]; do eval \"exec $i</dev/null\" || exit 3; i=$((i+1)); done", limits=Limits(open_files=20))
    assert not result.ok
    assert _names(result) == ["open_files"], result.report()


def test_rlimits_are_exactly_what_was_declared(facts):
    found = facts(limits=Limits(cpu_seconds=7, file_size=12345, open_files=99))["rlimits"]
    assert found[resource.RLIMIT_CPU] == [7, 8]
    assert found[resource.RLIMIT_FSIZE] == [12345, 12345]
    assert found[resource.RLIMIT_NOFILE] == [99, 99]


def test_few_descriptors_are_enough_to_start(sh):
    assert sh("exit 3", limits=Limits(open_files=4)).returncode == 3


def test_space_is_named_beside_what_it_led_to(sh):
    result = sh("echo x >/mnt/x && head -c 100000 /dev/zero >>/mnt/x || exit 9", mounts=[Tmpfs("/mnt", size=4096)])
    assert (result.returncode, _names(result)) == (9, ["space"])


# What cannot be held


def test_a_limit_that_cannot_be_held_is_an_error(runtime: Runtime, box: Image, monkeypatch):
    monkeypatch.setattr(runtime._ground, "_hierarchy", None)
    if os.geteuid() == 0:
        with pytest.raises(Unsupported, match="RLIMIT_NPROC"):
            runtime.run(["true"], image=box, limits=Limits(processes=5))
    assert "processes" in _names(runtime.run(["probe", "breed", "30"], image=box, limits=Limits(processes=10), user=500))
    assert isinstance(runtime.run(["probe", "hoard", "300"], image=box, limits=Limits(memory="64M")).status, OutOfMemory)


def test_groups_are_gone_with_their_jail(runtime: Runtime, box: Image):
    def left() -> list[str]:
        return [entry.path for directory in {*GROUPS.values()} for entry in os.scandir(directory) if entry.name == f"pytest-nsjail-{os.getpid()}"
                for entry in os.scandir(entry.path) if entry.is_dir()]

    for _ in range(3):
        runtime.run(["sh", "-c", "sleep 60 & exit 3"], image=box, limits=Limits(memory="64M", processes=20), user=500)
    assert left() == []
    with pytest.raises(Exception, match="absent"):
        runtime.run(["sh"], image=box, limits=Limits(memory="64M", processes=20), user="absent")
    assert left() == []

"""How a program ended: every way is told from every other."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_nsjail.errors import ProgramFailed, ResolveError, SetupError, SpecError, StartError
from pytest_nsjail.jail.status import Denied, Exited, NotStarted, Signaled, TimedOut
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.spec.dependency import Directory, Elf, Symlink, Text

SPIN = "while :; do :; done"


@pytest.mark.parametrize("code", [0, 1, 2, 17, 77, 125, 126, 128, 129, 137, 143, 254, 255])
def test_an_exit_code_is_the_programs(sh, code):
    result = sh(f"exit {code}")
    assert (result.status, result.returncode, result.ok) == (Exited(code), code, code == 0)


def test_every_exit_code_passes(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box) as jail:
        assert [jail.run(["sh", "-c", f"exit {code}"]).returncode for code in range(0, 256, 5)] == list(range(0, 256, 5))


@pytest.mark.parametrize("name", ["KILL", "TERM", "ABRT", "INT", "HUP", "SEGV", "PIPE", "ALRM", "USR1", "XCPU"])
def test_a_signal_that_it_sends_to_itself_kills_it(sh, name):
    number = getattr(signal, f"SIG{name}")
    result = sh(f"kill -{name} $$; echo survived")
    assert (result.status, result.returncode, result.stdout) == (Signaled(number), -number, "")


def test_a_real_time_signal_has_a_number_if_no_name(sh):
    result = sh("kill -40 $$")
    assert result.status == Signaled(40)
    assert "signal 40" in repr(result)


def test_an_exit_with_128_and_a_number_is_no_signal(sh):
    assert sh("sh -c 'kill -9 $$'; exit $?").status == Exited(137)


def test_a_missing_program_is_told_before_anything_is_made(runtime: Runtime, box: Image):
    with pytest.raises(ResolveError, match="absent"):
        runtime.run(["absent"], image=box)
    with pytest.raises(ResolveError, match="/bin/absent"):
        runtime.run(["/bin/absent"], image=box)


def test_a_program_that_goes_before_it_is_started_was_not_started(sh, runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box) as jail:
        jail.run(["rm", "/bin/true"], check=True)
        with_path, by_name = jail.run(["/bin/true"]), jail.run(["true"])
        for result in (with_path, by_name):
            assert isinstance(result.status, NotStarted)
            assert (result.returncode, result.ok, result.host_pid, result.stdout) == (None, False, 0, "")
        assert jail.run(["echo", "on"]).stdout == "on\n"


@pytest.mark.parametrize("what", [Text("/bin/odd", "#!/bin/sh\n", mode=0o644), Directory("/bin/odd")], ids=["not executable", "a directory"])
def test_what_cannot_be_executed_was_not_started(runtime: Runtime, what):
    image = runtime.image(Elf("/bin/busybox"), Symlink("/bin/sh", "busybox"), what)
    result = runtime.run(["/bin/odd"], image=image)
    assert isinstance(result.status, NotStarted)
    assert isinstance(result.status.error, StartError)
    assert result.status.error.errno == 13
    assert "/bin/odd" in str(result.status.error)


def test_what_is_no_program_was_not_started(runtime: Runtime):
    image = runtime.image(Elf("/bin/busybox"), Text("/bin/odd", "neither\n", mode=0o755))
    result = runtime.run(["/bin/odd"], image=image)
    assert isinstance(result.status, NotStarted)
    assert result.status.error.errno == 8


def test_an_exit_with_127_of_its_own_is_an_exit(sh):
    assert sh("exit 127").status == Exited(127)


@pytest.mark.parametrize("who", ["foo", "sh"])
@pytest.mark.parametrize("said", ["error while loading shared libraries: x", "symbol lookup error: x"])
def test_an_exit_with_127_after_the_words_of_a_loader_is_an_exit(sh, who, said):
    assert sh(f'echo "{who}: {said}" >&2; exit 127').status == Exited(127)


def test_root_needs_no_account_file(runtime: Runtime):
    assert runtime.run(["/bin/busybox", "id", "-u"], user="root").stdout == "0\n"


def test_check_raises_with_the_command_the_status_and_the_outputs(sh):
    with pytest.raises(ProgramFailed, match=r"(?s)exit 3.*exited with 3.*seen.*heard"):
        sh("echo seen; echo heard >&2; exit 3", check=True)


def test_a_filter_that_kills_is_told_from_a_signal(sh):
    assert sh("kill -SYS $$").status == Denied()


def test_a_program_in_time_did_not_time_out(sh):
    result = sh("exit 4", timeout=30)
    assert (result.status, result.exceeded) == (Exited(4), ())


def test_a_timeout_asks_first(sh):
    result = sh(f"trap 'echo bye; exit 17' TERM; {SPIN}", timeout=0.1)
    assert result.status == TimedOut(0.1, Exited(17))
    assert (result.returncode, result.stdout, result.ok) == (17, "bye\n", False)
    assert [one.limit for one in result.exceeded] == ["timeout"]


def test_a_timeout_kills_who_does_not_listen(sh):
    began = time.monotonic()
    result = sh(f"trap '' TERM; {SPIN}", timeout=0.1)
    assert result.status == TimedOut(0.1, Signaled(signal.SIGKILL))
    assert 1 <= time.monotonic() - began < 10


def test_a_timeout_ends_a_stopped_program(sh):
    assert sh("kill -STOP $$", timeout=0.1).status == TimedOut(0.1, Signaled(signal.SIGTERM))


def test_a_timeout_takes_the_children_along(sh):
    result = sh("(trap '' TERM; sleep 60) & sleep 60", timeout=1)
    assert result.status == TimedOut(1, Signaled(signal.SIGTERM))
    assert "sleep" in {process.argv[0] for process in result.leftovers}


def test_a_program_with_an_exit_of_0_on_sigterm_has_timed_out_all_the_same(sh):
    result = sh(f"trap 'exit 0' TERM; {SPIN}", timeout=0.1)
    assert (result.status, result.ok) == (TimedOut(0.1, Exited(0)), False)


def test_a_stopped_program_has_not_ended(runtime: Runtime, box: Image):
    with runtime.start(["sh", "-c", "kill -STOP $$; exit 5"], image=box) as jail:
        deadline = time.monotonic() + 10
        while _state(jail.host_pid) != "T" and time.monotonic() < deadline:
            time.sleep(0.002)
        with pytest.raises(TimeoutError):
            jail.wait(0.05)
        jail.signal(signal.SIGCONT)
        assert jail.wait().status == Exited(5)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def test_orphans_are_reaped(sh):
    result = sh("for i in 1 2 3 4 5; do (sleep 0 &) ; done; sleep 0.1; ps -o pid,stat,comm")
    assert "Z" not in "".join(line.split()[1] for line in result.stdout.splitlines()[1:])
    assert result.leftovers == ()


def test_daemons_are_counted_and_killed(sh):
    result = sh("sleep 61 & (sleep 62 &); sleep 0.1")
    assert sorted(process.argv for process in result.leftovers) == [("sleep", "61"), ("sleep", "62")]
    assert result.status == Exited(0)
    for process in result.leftovers:
        assert not os.path.exists(f"/proc/{process.host_pid}") or process.argv != _argv(process.host_pid)


def test_a_daemon_that_holds_the_outputs_keeps_nobody_waiting(sh):
    began = time.monotonic()
    assert sh("sleep 60 & echo done").stdout == "done\n"
    assert time.monotonic() - began < 10


def test_a_bomb_of_daemons_is_killed(sh):
    result = sh("i=0; while [ $i -lt 60 ]; do (sleep 60 &); i=$((i+1)); done")
    assert len(result.leftovers) == 60
    assert not any(process.argv == _argv(process.host_pid) for process in result.leftovers)


def _argv(pid: int) -> tuple[str, ...]:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return tuple(file.read().split("\0")[:-1])
    except (FileNotFoundError, ProcessLookupError):
        return ()


def test_the_program_is_number_two_below_the_init_and_alone(facts):
    found = facts()
    assert (found["pid"], found["ppid"], found["pids"]) == (2, 1, [0, 1, 2])


def test_a_kin_of_it_has_its_own_self(sh):
    assert sh("readlink /proc/self; echo $$").stdout.split() == ["3", "2"]


def test_the_host_pid_is_the_hosts_number(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "63"], image=box) as jail:
        assert _argv(jail.host_pid) == ("sleep", "63")
        assert [(process.pid, process.host_pid, process.argv) for process in jail.processes()] == [(2, jail.host_pid, ("sleep", "63"))]
        with open(f"/proc/{jail.host_pid}/status") as status:
            numbers = next(line.split()[1:] for line in status if line.startswith("NSpid:"))
        assert (numbers[0], numbers[-1]) == (str(jail.host_pid), "2")
        pid = jail.host_pid
    assert jail.wait().host_pid == pid


def test_a_program_that_was_not_started_has_no_host_pid(runtime: Runtime):
    image = runtime.image(Elf("/bin/busybox"), Text("/bin/odd", "neither\n", mode=0o755))
    for _ in range(10):
        jail = runtime.start(["/bin/odd"], image=image)
        assert jail.host_pid == 0
        assert isinstance(jail.wait().status, NotStarted)


def test_a_program_that_ends_at_once_had_a_host_pid(runtime: Runtime, box: Image):
    for _ in range(10):
        jail = runtime.start(["true"], image=box)
        assert jail.host_pid > 1
        assert jail.wait().ok


def test_children_know_their_host_pid_too(runtime: Runtime, box: Image):
    with runtime.start(["sh", "-c", "sleep 64 & sleep 65; :"], image=box) as jail:
        deadline = time.monotonic() + 10
        found = jail.processes()
        while {process.argv for process in found[1:]} != {("sleep", "64"), ("sleep", "65")} and time.monotonic() < deadline:
            time.sleep(0.002)
            found = jail.processes()
        assert [_argv(process.host_pid) for process in found] == [process.argv for process in found]
        assert [process.pid for process in found] == [2, 3, 4]


def test_the_time_of_a_burner_is_its_own(sh):
    result = sh("probe burn 0.3")
    assert 0.25 < result.usage.user + result.usage.system < 0.6
    assert result.duration >= 0.25


def test_the_time_of_a_sleeper_is_nobodys(sh):
    result = sh("sleep 0.2")
    assert result.usage.user + result.usage.system < 0.15
    assert 0.2 <= result.duration < 5


def test_the_time_of_children_counts(sh):
    usage = sh("probe burn 0.15 & probe burn 0.15; wait").usage
    assert usage.user + usage.system >= 0.25


def test_the_memory_of_a_hoarder_is_seen(sh):
    assert 64 << 20 <= sh("probe hoard 64").usage.peak_memory < 128 << 20


def test_a_jail_outlives_the_thread_that_started_it(runtime: Runtime, box: Image):
    jails = []
    thread = threading.Thread(target=lambda: jails.append(runtime.start(["sh", "-c", "sleep 0.1; exit 6"], image=box)))
    thread.start()
    thread.join()
    assert jails[0].wait().status == Exited(6)


def test_a_runtime_outlives_the_thread_that_used_it_first(runtime: Runtime, tmp_path):
    results = []

    def first(one: Runtime) -> None:
        results.append(one.run(["/bin/busybox", "true"]))

    with Runtime(str(tmp_path)) as another:
        thread = threading.Thread(target=first, args=(another,))
        thread.start()
        thread.join()
        results.append(another.run(["/bin/busybox", "true"]))
    assert [result.status for result in results] == [Exited(0), Exited(0)]


def test_threads_run_jails_at_once(runtime: Runtime, box: Image):
    codes: dict[int, int | None] = {}

    def run(number: int) -> None:
        for turn in range(4):
            code = number * 4 + turn
            codes[code] = runtime.run(["sh", "-c", f"echo {code}; exit {code}"], image=box).returncode

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {code: code for code in range(24)}


def test_stopping_asks_and_then_kills(runtime: Runtime, box: Image):
    polite = runtime.start(["sh", "-c", f"trap 'exit 9' TERM; echo up; {SPIN}"], image=box)
    rude = runtime.start(["sh", "-c", f"trap '' TERM; echo up; {SPIN}"], image=box)
    deadline = time.monotonic() + 10
    while not (polite.stdout and rude.stdout) and time.monotonic() < deadline:
        time.sleep(0.002)
    assert polite.stop().status == Exited(9)
    assert rude.stop(grace=0.05).status == Signaled(signal.SIGKILL)
    assert polite.stop().status == Exited(9)


def test_a_jail_can_be_stopped_at_the_moment_it_ends(runtime: Runtime, box: Image):
    for turn in range(60):
        jail = runtime.start(["true"], image=box)
        time.sleep(turn * 0.00005)
        jail.signal(0)
        assert jail.stop().status in (Exited(0), Signaled(signal.SIGTERM))


def test_a_jail_can_be_stopped_by_another_thread_while_one_waits(box: Image, tmp_path):
    seen = []
    with Runtime(str(tmp_path), finished=lambda spec, result: seen.append(result)) as runtime:
        for turn in range(40):
            jail = runtime.start(["sleep", "60" if turn % 2 else "0.01"], image=box)
            with ThreadPoolExecutor() as pool:
                time.sleep(turn * 0.0005)
                ends = [pool.submit(ask) for ask in (jail.wait, jail.stop, lambda jail=jail: jail.wait(60), jail.stop)]
                assert jail.stdout == ""
                results = [end.result(timeout=60) for end in ends]
            assert {id(result) for result in results} == {id(jail.wait())}
            assert seen == results[:1]
            seen.clear()


def test_who_waits_for_a_jail_that_is_closed_is_told_so(runtime: Runtime, box: Image):
    jail = runtime.start(["sleep", "60"], image=box)
    with ThreadPoolExecutor() as pool:
        end = pool.submit(jail.wait)
        time.sleep(0.05)
        jail.close()
        with pytest.raises(SetupError, match="the jail was closed"):
            end.result(timeout=60)


@pytest.mark.parametrize("number", [1000, 65, -1])
def test_what_is_no_signal_is_refused_and_harms_nobody(runtime: Runtime, box: Image, number: int):
    with runtime.start(["sleep", "60"], image=box) as jail:
        with pytest.raises(SpecError, match=rf"signal\({number}\): there is no such signal"):
            jail.signal(number)
        jail.signal(signal.SIGTERM)
        assert jail.wait().status == Signaled(signal.SIGTERM)


def test_an_ended_jail_takes_signals_and_stops_silently(runtime: Runtime, box: Image):
    jail = runtime.start(["true"], image=box)
    assert jail.wait().ok
    jail.signal(signal.SIGTERM)
    assert jail.stop().ok
    assert jail.processes() == ()

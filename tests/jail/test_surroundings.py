"""What a program is born with: its environment, directory, mask, session, signals, limits - the declared ones, whatever pytest's are."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.jail.status import NotStarted
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.spec.dependency import Directory, Elf, Symlink


def test_the_environment_is_exactly_what_is_declared(facts):
    found = facts(env={"ONE": "1", "EMPTY": "", "LINES": "a\nb\n", "EQUALS": "a=b=c", "ODD": "\udcff\t\"'\\"})["env"]
    assert sorted(found) == sorted(["PATH=/bin", "ONE=1", "EMPTY=", "LINES=a\nb\n", "EQUALS=a=b=c", "ODD=\xff\t\"'\\"])


def test_an_environment_can_be_empty(runtime: Runtime):
    image = runtime.image(Elf("/bin/busybox"))
    assert runtime.run(["/bin/busybox", "env"], image=image).stdout == ""


def test_a_runs_environment_overrides_the_images(facts):
    assert facts(env={"PATH": "/bin:/sbin"})["env"] == ["PATH=/bin:/sbin"]


def test_a_large_environment_passes(sh):
    value = "x" * 100_000
    assert sh("echo ${#BIG}", env={"BIG": value}).stdout == "100000\n"


def test_arguments_pass_as_they_are(runtime: Runtime, box: Image):
    odd = ["--", "-x", "", "a b", "new\nline", "ü", "\udcff", "$HOME", "*"]
    result = runtime.run(["sh", "-c", 'for one; do printf "%s|" "$one"; done', "sh", *odd], image=box)
    assert result.stdout_bytes == b"".join(os.fsencode(one) + b"|" for one in odd)


def test_many_arguments_pass(runtime: Runtime, box: Image):
    assert runtime.run(["sh", "-c", "echo $#", "sh", *map(str, range(20_000))], image=box).stdout == "20000\n"


def test_too_many_arguments_are_a_program_that_was_not_started(runtime: Runtime, box: Image):
    result = runtime.run(["echo", "x" * (1 << 20)], image=box)
    assert isinstance(result.status, NotStarted)
    assert "too large" in str(result.status)


def test_the_init_discloses_nothing(sh, monkeypatch):
    monkeypatch.setenv("NSJAIL_SECRET", "of-pytest")
    result = sh("cat /proc/1/cmdline /proc/1/comm; cat /proc/1/environ; ps")
    assert "of-pytest" not in result.stdout + result.stderr
    assert "python" not in result.stdout
    assert "nsjail-init" in result.stdout
    assert os.getcwd() not in result.stdout


def test_pytests_environment_is_nowhere_in_the_session(runtime: Runtime, box: Image, tmp_path):
    script = (
        "import sys, os\nfrom pytest_nsjail.runtime import Runtime\n"
        "with Runtime(sys.argv[1]) as r:\n    print(r.run(['/bin/busybox', 'cat', '/proc/1/environ', '/proc/self/environ'], env={'A': 'b'}).stdout)\n"
        "    for pid in os.listdir('/proc'):\n        try: text = open(f'/proc/{pid}/environ').read() if pid.isdigit() and int(pid) != os.getpid() else ''\n"
        "        except OSError: continue\n        assert 'of-the-session' not in text, pid\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], env={**os.environ, "NSJAIL_SECRET": "of-the-session"}, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "A=b\0\n"), ran.stderr


def test_the_working_directory_is_the_root_unless_told(facts):
    assert facts()["cwd"] == "/"


@pytest.mark.parametrize("workdir", ["/data", "/data/sub", "/tmp", "/dev/shm", "/proc", "/"])
def test_the_working_directory_is_the_declared_one(facts, workdir):
    assert facts(workdir=workdir)["cwd"] == workdir


def test_a_missing_working_directory_is_told_before_anything_is_made(sh):
    with pytest.raises(ResolveError, match="/absent"):
        sh(":", workdir="/absent")
    with pytest.raises(ResolveError, match="no directory"):
        sh(":", workdir="/data/kept")


@pytest.mark.usefixtures("removable")
def test_a_working_directory_that_goes_is_a_program_that_was_not_started(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box, workdir="/data/sub") as jail:
        assert jail.processes()[0].argv == ("sleep", "60")  # it is in there by now
        jail.run(["sh", "-c", "rm -r /data/sub"], workdir="/", check=True)
        result = jail.run(["true"])
        assert isinstance(result.status, NotStarted)
        assert "/data/sub" in str(result.status)


def test_a_closed_working_directory_is_a_program_that_was_not_started(runtime: Runtime):
    image = runtime.image(Elf("/bin/busybox"), Symlink("/bin/sh", "busybox"), Directory("/closed", mode=0o700))
    assert runtime.run(["/bin/busybox", "pwd"], image=image, workdir="/closed").stdout == "/closed\n"
    if os.geteuid() == 0:  # a plain user with one id is the owner whatever he is called inside
        assert isinstance(runtime.run(["/bin/busybox", "pwd"], image=image, workdir="/closed", user=500).status, NotStarted)


def test_the_mask_is_022_whatever_pytests_is(sh, tmp_path):
    before = os.umask(0o077)
    try:
        with Runtime(str(tmp_path)) as other:
            assert other.run(["/bin/busybox", "sh", "-c", "umask"]).stdout == "0022\n"
        result = sh("umask; touch /tmp/file; mkdir /tmp/dir; stat -c %a /tmp/file /tmp/dir / /tmp /dev")
        assert result.stdout.split() == ["0022", "644", "755", "755", "1777", "755"]
    finally:
        os.umask(before)


def test_it_leads_a_session_of_its_own_without_a_terminal(facts):
    found = facts()
    assert (found["sid"], found["pgid"]) == (2, 2)
    assert found["tty"] == 6, "ENXIO: no controlling terminal"


def _signals(status: str) -> dict[str, int]:
    return {line[:6]: int(line[7:], 16) for line in status.splitlines() if line.startswith("Sig") and line[3:6] in ("Blk", "Ign", "Cgt", "Pnd")}


def test_no_signal_is_ignored_or_blocked(facts):
    found = facts()
    assert set(_signals(found["status"]).values()) == {0}
    assert found["ignored"] == [0]


def test_what_pytest_ignores_and_blocks_is_not_inherited(tmp_path):
    # In a process of its own: the dispositions of this one are pytest's.
    script = """
import signal, sys
from pytest_nsjail.runtime import Runtime
for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGXFSZ, 40):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGUSR2, 41})
with Runtime(sys.argv[1]) as runtime:
    for _ in range(3):
        result = runtime.run(["/bin/busybox", "sh", "-c", "/bin/busybox cat /proc/self/status; exit 5"])
        assert result.returncode == 5, result
    print(result.stdout)
"""
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert {name: value for name, value in _signals(ran.stdout).items() if name in ("SigBlk", "SigIgn")} == {"SigBlk": 0, "SigIgn": 0}


def test_an_ignored_sigchld_of_the_parent_changes_nothing(runtime: Runtime, box: Image):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert runtime.run(["sh", "-c", "sh -c 'exit 3'; exit $?"], image=box).returncode == 3
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_timer_of_nobody_reaches_the_program(sh):
    result = sh("trap 'echo alarmed' ALRM; trap 'echo termed' TERM; sleep 0.2", timeout=30)
    assert result.stdout == ""


def test_its_limits_are_pytests_unless_declared(facts):
    found = facts()["rlimits"]
    for name in ("CORE", "STACK", "AS", "FSIZE", "CPU"):
        number = getattr(resource, f"RLIMIT_{name}")
        assert found[number] == list(resource.getrlimit(number)), name


def test_it_may_be_looked_into_by_its_own_kind(facts):
    assert facts()["dumpable"] == 1


def test_the_clock_is_the_hosts(sh):
    assert abs(int(sh("busybox date +%s").stdout) - time.time()) < 5

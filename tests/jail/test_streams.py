"""What goes in and what comes out: bytes, all of them, and no descriptor else."""

from __future__ import annotations

import os

import pytest

from pytest_nsjail.errors import SpecError
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image

EVERY_BYTE = bytes(range(256)) * 33


def test_the_two_outputs_stay_apart(sh):
    result = sh("echo out; echo err >&2")
    assert (result.stdout_bytes, result.stderr_bytes) == (b"out\n", b"err\n")


def test_a_silent_program_says_nothing(sh):
    result = sh(":")
    assert (result.stdout_bytes, result.stderr_bytes) == (b"", b"")


def test_every_byte_passes_in_and_out(sh):
    result = sh("cat; cat /etc/passwd >&2", stdin=EVERY_BYTE)
    assert result.stdout_bytes == EVERY_BYTE
    assert os.fsencode(result.stdout) == EVERY_BYTE


def test_text_goes_in_as_utf_8(sh):
    assert sh("cat", stdin="grün\n").stdout == "grün\n"


def test_without_input_there_is_the_null_device(sh):
    assert sh("readlink /proc/self/fd/0; cat").stdout == "/dev/null\n"


def test_an_empty_input_is_an_end_at_once(sh):
    result = sh("readlink /proc/self/fd/0; cat; echo end", stdin=b"")
    assert result.stdout.startswith("pipe:")
    assert result.stdout.endswith("]\nend\n")


@pytest.mark.parametrize("size", [1, 4096, 65535, 65536, 65537, 1 << 20, 5_000_000])
def test_input_of_any_size_comes_back(sh, size):
    given = os.urandom(size)
    assert sh("cat", stdin=given).stdout_bytes == given


def test_input_that_nobody_reads_keeps_nobody_waiting(sh):
    assert sh("exit 3", stdin=b"x" * (1 << 20)).returncode == 3


def test_input_that_is_read_in_part_is_dropped(sh):
    result = sh("head -c 10; exec 0</dev/null; echo; echo still here", stdin=b"x" * (1 << 20))
    assert result.stdout == "x" * 10 + "\nstill here\n"


def test_a_mebibyte_of_each_output_is_kept(sh):
    result = sh("head -c 1048576 /dev/zero; head -c 1048576 /dev/zero >&2")
    assert (len(result.stdout_bytes), len(result.stderr_bytes), result.truncated) == (1 << 20, 1 << 20, 0)


def test_beyond_64_mebibytes_output_is_counted_and_dropped(sh):
    result = sh("head -c 104857600 /dev/zero")
    assert len(result.stdout_bytes) == 64 << 20
    assert result.truncated == 36 << 20
    assert result.ok


def test_what_was_said_before_a_death_is_kept(sh):
    assert sh("echo last words; kill -9 $$").stdout == "last words\n"


def test_output_is_seen_while_the_program_runs(runtime: Runtime, box: Image):
    with runtime.start(["sh", "-c", "echo up; echo ill >&2; read line; echo $line"], image=box, stdin=None) as jail:
        while not (jail.stdout and jail.stderr):
            pass
        assert (jail.stdout, jail.stderr) in (("up\n", "ill\n"), ("up\n\n", "ill\n"))


def test_three_descriptors_are_open_and_no_other(facts):
    found = facts()["fds"]
    assert sorted(found) == ["0", "1", "2"]
    assert found["0"] == "/dev/null"
    assert found["1"].startswith("pipe:")
    assert found["2"].startswith("pipe:")


def test_input_takes_no_further_descriptor(facts):
    assert sorted(facts(stdin=b"x")["fds"]) == ["0", "1", "2"]


def test_inheritable_descriptors_of_pytest_stay_with_it(facts, tmp_path):
    read, write = os.pipe()
    secret = os.open(tmp_path, os.O_RDONLY)
    for fd in (read, write, secret):
        os.set_inheritable(fd, True)
    try:
        assert sorted(facts()["fds"]) == ["0", "1", "2"]
    finally:
        for fd in (read, write, secret):
            os.close(fd)


@pytest.mark.parametrize("user", [None, 500])
def test_the_outputs_can_be_opened_by_name(sh, user):
    result = sh("echo out >/dev/stdout; echo err >/dev/stderr; echo fd >/dev/fd/1", user=user)
    assert (result.stdout, result.stderr) == ("out\nfd\n", "err\n")


@pytest.mark.parametrize("user", [None, 500])
def test_the_input_can_be_opened_by_name(sh, user):
    assert sh("cat /dev/stdin", user=user, stdin="text").stdout == "text"


def test_many_programs_of_one_jail_leave_no_descriptor_in_pytest(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box) as jail:
        jail.run(["true"])
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            jail.run(["sh", "-c", "echo x; touch /x; exit 1"], stdin=b"x")
            with pytest.raises(SpecError):
                jail.run([])
        assert len(os.listdir("/proc/self/fd")) <= before

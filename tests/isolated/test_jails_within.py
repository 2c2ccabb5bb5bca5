"""The jails that an isolated test starts."""

from __future__ import annotations

import pytest

BOUND = """
    import os, pytest
    from pathlib import Path
    from pytest_nsjail import Bind, Elf

    HERE = Path(__file__).parent

    @pytest.fixture(scope="session")
    def busybox(nsjail_image):
        return nsjail_image(Elf("/bin/busybox"))

    @pytest.fixture
    def told(nsjail_run, busybox):
        def told(source, command, writable=False):
            script = f"cd /given; {command}"
            return nsjail_run(["/bin/busybox", "sh", "-c", script], image=busybox, mounts=[Bind(source, "/given", writable=writable)], check=True).stdout
        return told

    def test_a_file_of_the_project(nsjail_run, busybox):
        given = Bind(HERE / "given.txt", "/given.txt")
        assert nsjail_run(["/bin/busybox", "cat", "/given.txt"], image=busybox, mounts=[given]).stdout == "as it was"

    def test_the_project(told):
        assert told(HERE, "busybox cat given.txt") == "as it was"

    def test_what_the_test_has_written(told):
        (HERE / "given.txt").write_text("as it is")
        (HERE / "new").mkdir()
        (HERE / "new/file").write_text("new")
        assert told(HERE, "busybox cat given.txt new/file") == "as it isnew"
        assert told(HERE / "new", "busybox cat file") == "new"

    def test_it_was_not_there_before(told):
        assert told(HERE, "busybox ls new || busybox cat given.txt") == "as it was"

    @pytest.mark.parametrize("where", ["/tmp", "/var/tmp", "/dev/shm", "~", "tmp_path"])
    def test_where_it_may_write(told, where, tmp_path):
        where = tmp_path if where == "tmp_path" else Path(where).expanduser()
        (where / "mine").write_text("mine")
        assert told(where, "busybox cat mine; echo yours >yours", writable=True) == "mine"
        assert (where / "yours").read_text() == "yours\\n"

    def test_no_more_than_the_test_may_it_write(nsjail_run, busybox):
        given = Bind("/usr", "/given", writable=True)
        done = nsjail_run(["/bin/busybox", "touch", "/given/nsjail-was-here"], image=busybox, mounts=[given])
        assert done.returncode == 1 and "Read-only file system" in done.stderr

    def test_nor_see(told):
        assert told("/tmp", "busybox ls").splitlines() == sorted(os.listdir("/tmp"))
"""


def test_a_bind_gives_what_the_test_sees(inner: pytest.Pytester) -> None:
    inner.makefile(".txt", given="as it was")
    inner.makepyfile(BOUND)
    inner.runpytest_subprocess("--nsjail", "--tb=short").assert_outcomes(passed=11)
    assert (inner.path / "given.txt").read_text() == "as it was"
    assert not (inner.path / "new").exists()

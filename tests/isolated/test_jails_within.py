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


NETWORK = """
    import os, pytest

    def seen(nsjail_run):
        return nsjail_run(["/bin/busybox", "readlink", "/proc/self/ns/net"], network="host").stdout.strip()

    @pytest.fixture(scope="session")
    def outside():
        return os.readlink("/proc/self/ns/net")

    def test_of_its_own(nsjail_run, outside):
        assert seen(nsjail_run) == os.readlink("/proc/self/ns/net") != outside

    @pytest.mark.isolated(network="host")
    def test_of_the_host(nsjail_run, outside):
        assert seen(nsjail_run) == os.readlink("/proc/self/ns/net") == outside

    def test_a_server_of_the_test(nsjail_run):
        import socket, threading
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"), daemon=True).start()
            assert nsjail_run(["/bin/busybox", "nc", "127.0.0.1", str(server.getsockname()[1])], network="host", timeout=20).stdout == "hello"
"""


def test_the_hosts_network_is_the_tests(inner: pytest.Pytester) -> None:
    inner.makepyfile(NETWORK)
    inner.runpytest_subprocess("--nsjail", "--tb=short").assert_outcomes(passed=3)


def test_what_became_of_a_wider_jail_is_its_owners_to_hear(inner: pytest.Pytester) -> None:
    inner.makeconftest("def pytest_nsjail_finished(result): assert result.ok\n")
    inner.makepyfile("""
        import pytest
        from pytest_nsjail import JailEnded, SetupError

        @pytest.fixture(scope="module")
        def jail(nsjail_start_module):
            return nsjail_start_module(["/bin/busybox", "sh", "-c", "echo last words; sleep 0.3; exit 5"])

        def test_inside(jail):
            while not jail.ended: pass
            with pytest.raises(JailEnded, match="it is gone"): jail.dial(80)
            with pytest.raises(SetupError, match="in another process than that which started it"): jail.wait()
            assert 0

        def test_closed_inside(jail): jail.close()

        @pytest.mark.isolated(False)
        def test_outside(jail):
            with pytest.raises(AssertionError): jail.wait()
            assert jail.wait().returncode == 5
    """)
    result = inner.runpytest_subprocess("--nsjail", "-p", "no:randomly", timeout=30)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*nsjail: it is gone: /bin/busybox*", "last words"])

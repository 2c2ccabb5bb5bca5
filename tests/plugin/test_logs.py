"""What jails say: as it comes with -s, and under the tests that fail."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

# Says one line for each signal, and which.
SERVER = r"""
    import pytest, signal

    SCRIPT = "trap 'echo got one; echo and more >&2' USR1; trap 'echo it crashes; exit 7' USR2; echo listening; while :; do sleep 0.02; done"

    def told(jail, count):
        jail.signal(signal.SIGUSR1)
        while jail.stderr.count("more") < count: pass

    @pytest.fixture(scope="session")
    def server(nsjail_start_session):
        jail = nsjail_start_session(["/bin/busybox", "sh", "-c", SCRIPT])
        while "listening" not in jail.stdout: pass
        return jail
"""


class TestUnderAFailedTest:
    def test_the_part_of_a_sessions_server_that_was_written_during_it(self, inner: pytest.Pytester) -> None:
        inner.makepyfile(SERVER + """
    def test_first(server):
        told(server, 1)
        assert 0
    def test_second(server): told(server, 2)
    def test_third(server):
        told(server, 3)
        assert 0
    def test_fourth(server): assert 0
""")
        result = inner.runpytest_subprocess()
        result.assert_outcomes(failed=3, passed=1)
        first, _, rest = result.stdout.str().partition("_ test_third _")
        third, _, fourth = rest.partition("_ test_fourth _")
        assert [text.count("\nlistening\n") for text in (first, third, fourth)] == [1, 0, 0]
        assert [text.count("\ngot one\n") for text in (first, third, fourth)] == [1, 1, 0]
        assert [text.count("\nand more\n") for text in (first, third, fourth)] == [1, 1, 0]
        # It has said nothing during the test.
        assert "nsjail: started" not in fourth

    def test_what_an_observed_one_tried_to_reach(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
    def test_it(nsjail_start):
        script = "busybox nc 127.0.0.1 5432 </dev/null; echo tried; sleep 60"
        jail = nsjail_start(["/bin/busybox", "sh", "-c", script.replace("busybox", "/bin/busybox")], observe=True)
        while "tried" not in jail.stdout: pass
        assert 0
""")
        result = inner.runpytest_subprocess()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*nsjail: started: /bin/busybox sh*", "not there: tcp 127.0.0.1:5432*"])

    def test_one_that_ended_during_it(self, inner: pytest.Pytester) -> None:
        inner.makepyfile(SERVER + """
    def test_first(server): told(server, 1)
    def test_second(server):
        server.signal(signal.SIGUSR2)
        assert server.wait().returncode == 0
    def test_third(server): assert 0
""")
        result = inner.runpytest_subprocess()
        result.assert_outcomes(passed=1, failed=2)
        text = result.stdout.str()
        assert [text.count(f"\n{line}\n") for line in ("it crashes", "got one", "listening")] == [1, 0, 0]
        result.stdout.fnmatch_lines(["*nsjail: exited with 7*"])

    def test_a_second_report_has_what_came_after_the_first(self, inner: pytest.Pytester) -> None:
        inner.makepyfile(SERVER + """
    @pytest.fixture
    def broken(server):
        yield
        told(server, 2)
        raise OSError
    def test_it(server, broken):
        told(server, 1)
        assert 0
""")
        result = inner.runpytest_subprocess()
        result.assert_outcomes(failed=1, errors=1)
        assert [result.outlines.count(line) for line in ("listening", "got one", "and more")] == [1, 2, 2]

    def test_a_long_log_says_how_long_it_is(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            def test_it(nsjail_start):
                jail = nsjail_start(["/bin/busybox", "sh", "-c", "seq 1000; echo the end >&2; exec sleep 600"])
                while not jail.stderr: pass
                assert 0
        """)
        inner.runpytest_subprocess().stdout.fnmatch_lines(["--- stdout, the last 100 of 1000 lines", "901", "1000", "--- stderr", "the end"])


class TestAsItComes:
    def test_with_no_capture_behind_its_name(self, inner: pytest.Pytester) -> None:
        inner.makepyfile(r"""
            def test_it(nsjail_run, nsjail_start):
                nsjail_run(["/bin/busybox", "sh", "-c", r"printf 'one\n\ntwo\r\nhalf'; echo wrong >&2"], check=True)
                jail = nsjail_start(["/bin/busybox", "sleep", "600"], hostname="db")
                jail.run(["/bin/busybox", "sh", "-c", r"head -c 70000 /dev/zero | tr '\0' x"], check=True)
        """)
        result = inner.runpytest_subprocess("-s")
        result.assert_outcomes(passed=1)
        # The first one stands behind what pytest has written of its line.
        said = [line.partition("| ")[::2] for line in result.outlines if "| " in line]
        assert said[0][0].endswith("busybox")
        assert [line for _, line in said[:4]] == ["one", "", "two", "half"]
        # A line longer than any buffer comes in parts.
        assert ["".join(line for label, line in said if label == "db")] == ["x" * 70_000]
        assert result.errlines == ["busybox| wrong"]

    def test_not_where_pytest_captures(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("def test_it(nsjail_run): nsjail_run(['/bin/busybox', 'echo', 'said'])")
        for arguments in ([], ["--capture=sys"], ["--capture=tee-sys"]):
            result = inner.runpytest_subprocess(*arguments)
            result.assert_outcomes(passed=1)
            result.stdout.no_fnmatch_line("*said*")

    def test_from_a_test_in_a_process_of_its_own(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            import pytest
            @pytest.mark.isolated
            def test_it(nsjail_run): assert nsjail_run(["/bin/busybox", "echo", "said"]).stdout == "said\\n"
        """)
        result = inner.runpytest_subprocess("-s")
        result.assert_outcomes(passed=1)
        assert [line for line in result.outlines if line.endswith("busybox| said")]

    def test_from_workers(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            import pytest
            @pytest.mark.parametrize("number", range(4))
            def test_it(nsjail_run, number): assert nsjail_run(["/bin/busybox", "echo", f"said {number}"]).ok
        """)
        result = inner.runpytest_subprocess("-s", "-n2", "-p", "xdist")
        result.assert_outcomes(passed=4)
        assert sorted(line for line in result.errlines if "said" in line) == [f"busybox| said {number}" for number in range(4)]

    def test_while_the_program_runs(self, inner: pytest.Pytester, tmp_path: Path) -> None:
        """A server that is seen to say something ends only when somebody has seen it."""
        inner.makepyfile(f"""
            from pytest_nsjail import Bind
            def test_it(nsjail_run):
                wait = "echo listening; until [ -e /seen/it ]; do sleep 0.01; done"
                nsjail_run(["/bin/busybox", "sh", "-c", wait], mounts=[Bind({str(tmp_path)!r}, "/seen")], timeout=30, check=True)
        """)
        ours, theirs = pty.openpty()
        running = subprocess.Popen([sys.executable, "-m", "pytest", "-s", "-q"], cwd=inner.path, stdout=theirs, stderr=theirs)
        os.close(theirs)
        text = b""
        try:
            while chunk := _read(ours):
                text += chunk
                if b"busybox| listening" in text:
                    (tmp_path / "it").touch()
        finally:
            running.kill() if b"passed" not in text else None
            assert running.wait() == 0, text.decode()
            os.close(ours)

    def test_a_reader_who_does_not_read_keeps_nobody(self, inner: pytest.Pytester) -> None:
        """The jail's time is over in time, and what was said meanwhile comes when somebody reads."""
        inner.makepyfile("""
            from pytest_nsjail import TimedOut
            def test_it(nsjail_run):
                result = nsjail_run(["/bin/busybox", "sh", "-c", "seq 100000; sleep 600"], timeout=1)
                assert isinstance(result.status, TimedOut)
                assert result.stdout.endswith("\\n100000\\n")
                assert result.duration < 10
                open("over", "w").close()
        """)
        reader, writer = os.pipe()
        running = subprocess.Popen([sys.executable, "-m", "pytest", "-s", "-q"], cwd=inner.path, stdout=writer, stderr=subprocess.DEVNULL)
        os.close(writer)
        over = inner.path / "over"
        found: list[bytes] = []

        def read() -> None:
            while chunk := os.read(reader, 1 << 16):
                found.append(chunk)

        while not over.exists() and running.poll() is None:
            pass
        assert over.exists()
        thread = threading.Thread(target=read)
        thread.start()
        assert running.wait(30) == 0
        thread.join()
        os.close(reader)
        assert b"busybox| 1\n" in b"".join(found)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # EIO: the other end was closed
        return b""

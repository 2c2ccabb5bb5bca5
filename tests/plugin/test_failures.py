"""What is shown when a test fails, and that nothing is when it does not."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

LOUD = """
    import pytest

    @pytest.fixture
    def result(nsjail_run):
        return nsjail_run(["/bin/busybox", "sh", "-c", "seq 30; echo 'went wrong' >&2; exit 3"])
"""


@pytest.mark.parametrize(("assertion", "shown"), [
    ("result.ok", ["E * where False = <Result of /bin/busybox sh -c 'seq 30*: exited with 3, saying 'went wrong'>.ok"]),
    ("result.returncode == 0", ["E *assert 3 == 0", "E * where 3 = <Result of *: exited with 3, saying 'went wrong'>.returncode"]),
    ("result.stdout == 'fine'", ["E *- fine", "E *+ 1", "E *+ 2"]),
    ("'fine' in result.stderr", ["E *assert 'fine' in 'went wrong\\n'"]),
])
def test_a_failed_assertion_shows_the_program(inner: pytest.Pytester, assertion: str, shown: list[str]) -> None:
    inner.makepyfile(LOUD + f"\n    def test_it(result): assert {assertion}\n")
    result = inner.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(shown)
    result.stdout.fnmatch_lines([
        "-* nsjail: exited with 3 -*",
        "$ /bin/busybox sh -c 'seq 30; echo '*'went wrong'*' >&2; exit 3'",
        "exited with 3 after * s",
        "--- stdout, the last 12 of 30 lines",
        *map(str, range(19, 31)),
        "--- stderr",
        "went wrong",
    ])


@pytest.mark.parametrize(("run", "words"), [
    ("nsjail_run(['/bin/busybox', 'sleep', '9'], timeout=0.2)", "timed out after 0.2 s (killed by SIGTERM)"),
    ("nsjail_run(['/bin/busybox', 'sh', '-c', 'kill -SEGV $$'])", "killed by SIGSEGV"),
])
def test_the_status_is_in_words(inner: pytest.Pytester, run: str, words: str) -> None:
    inner.makepyfile(f"def test_it(nsjail_run): assert {run}.ok")
    result = inner.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    assert any(words in line for line in result.outlines if line.startswith("E "))
    assert any(line.startswith(words) for line in result.outlines)


def test_every_program_of_a_test_is_shown_in_order(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest
        @pytest.fixture
        def before(nsjail_run): nsjail_run(["/bin/busybox", "echo", "first"])
        def test_it(before, nsjail_run):
            nsjail_run(["/bin/busybox", "echo", "second"])
            assert 0
    """)
    result = inner.runpytest_subprocess()
    assert [line for line in result.outlines if line in ("first", "second")] == ["first", "second"]


def test_a_test_that_runs_hundreds_of_programs_shows_its_last_ones(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        def test_it(nsjail_run):
            for number in range(300):
                nsjail_run(["/bin/busybox", "echo", f"number {number}"])
            assert 0
    """)
    result = inner.runpytest_subprocess()
    assert [line for line in result.outlines if line.startswith("number ")] == [f"number {number}" for number in range(292, 300)]
    result.stdout.fnmatch_lines(["292 earlier programs are not shown"])
    assert len(result.outlines) < 80


class TestRunningJails:
    def test_what_they_said_so_far_is_shown(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            def test_it(nsjail_start):
                jail = nsjail_start(["/bin/busybox", "sh", "-c", "echo listening; echo trouble >&2; exec sleep 600"])
                while not jail.stderr: pass
                nsjail_start(["/bin/busybox", "sleep", "601"])
                assert 0
        """)
        result = inner.runpytest_subprocess()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([
            "*nsjail: started: /bin/busybox sh -c 'echo listening*", "--- stdout", "listening", "--- stderr", "trouble",
            "*nsjail: started: /bin/busybox sleep 601*", "(it has said nothing so far)",
        ])

    def test_one_that_ended_is_a_result(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            def test_it(nsjail_start):
                nsjail_start(["/bin/busybox", "sh", "-c", "echo spoke once"]).wait()
                assert 0
        """)
        result = inner.runpytest_subprocess()
        assert result.outlines.count("spoke once") == 1
        result.stdout.fnmatch_lines(["*nsjail: exited with 0*"])
        result.stdout.no_fnmatch_line("*nsjail: started*")

    def test_one_that_was_closed_says_so_and_breaks_nothing(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            def test_it(nsjail_start):
                nsjail_start(["/bin/busybox", "sleep", "600"]).close()
                assert 0, "the reason"
            def test_next(): pass
        """)
        result = inner.runpytest_subprocess()
        result.assert_outcomes(failed=1, passed=1)
        result.stdout.fnmatch_lines(["E * the reason", "(it was closed, and what it said is gone)"])

    def test_a_long_log_is_told_by_its_end(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            def test_it(nsjail_start):
                jail = nsjail_start(["/bin/busybox", "sh", "-c", "seq 100000; echo the end >&2; exec sleep 600"])
                while not jail.stderr: pass
                assert 0
        """)
        result = inner.runpytest_subprocess()
        result.stdout.fnmatch_lines(["99999", "100000", "--- stderr", "the end"])
        assert len(result.stdout.str()) < 10_000


class TestNotShown:
    def test_under_a_test_that_passes(self, inner: pytest.Pytester) -> None:
        inner.makepyfile(LOUD + """
    def test_it(result): assert result.returncode == 3

    @pytest.mark.xfail(strict=True)
    def test_expected(result): assert result.ok

    def test_skipped(result): pytest.skip("because")
""")
        result = inner.runpytest_subprocess("-rA", "--junitxml=report.xml", "-o", "junit_logging=all")
        result.assert_outcomes(passed=1, xfailed=1, skipped=1)
        result.stdout.no_fnmatch_line("*went wrong*")
        assert "went wrong" not in (inner.path / "report.xml").read_text().replace("saying &#x27;went wrong", "")

    def test_under_a_later_test(self, inner: pytest.Pytester) -> None:
        inner.makepyfile(LOUD + """
    def test_first(result): pass
    def test_second(): assert 0

    @pytest.fixture
    def late(nsjail_run):
        yield
        nsjail_run(["/bin/busybox", "echo", "from a teardown"])

    def test_third(late, nsjail_start): nsjail_start(["/bin/busybox", "sleep", "600"])
    def test_fourth(): assert 0
""")
        result = inner.runpytest_subprocess()
        result.assert_outcomes(passed=2, failed=2)
        result.stdout.no_fnmatch_line("*went wrong*")
        result.stdout.no_fnmatch_line("*nsjail: *ed*")

    def test_twice_for_a_test_that_fails_twice(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            import pytest
            @pytest.fixture
            def broken(nsjail_run):
                yield
                nsjail_run(["/bin/busybox", "echo", "from the teardown"])
                raise OSError
            def test_it(broken, nsjail_run):
                nsjail_run(["/bin/busybox", "echo", "from the test"])
                assert 0
        """)
        result = inner.runpytest_subprocess()
        result.assert_outcomes(failed=1, errors=1)
        assert result.outlines.count("from the test") == 1
        assert result.outlines.count("from the teardown") == 1


class TestReports:
    @pytest.fixture(autouse=True)
    def encoding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a terminal that takes nothing else, in every locale."""
        monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")

    def test_junitxml_is_written_and_says_what_failed(self, inner: pytest.Pytester) -> None:
        inner.makepyfile(LOUD + r"""
    def test_it(result): assert result.ok
    def test_bytes(nsjail_run): assert nsjail_run(["/bin/busybox", "printf", r"\377\001\033[31m"]).stdout == "x"
""")
        inner.runpytest_subprocess("--junitxml=report.xml", "-o", "junit_logging=all").assert_outcomes(failed=2)
        failures = ElementTree.parse(inner.path / "report.xml").getroot().findall(".//failure")
        assert len(failures) == 2
        assert "exited with 3, saying 'went wrong'" in (failures[0].text or "")

    @pytest.mark.parametrize("arguments", [[], ["-p", "xdist", "-n1"]])
    def test_bytes_that_are_no_text_break_nothing(self, inner: pytest.Pytester, arguments: list[str]) -> None:
        inner.makepyfile(r"""
            def test_run(nsjail_run):
                result = nsjail_run(["/bin/busybox", "printf", r"a\377b", "\udcfe"])
                assert result.stdout == "x"
            def test_started(nsjail_start):
                jail = nsjail_start(["/bin/busybox", "sh", "-c", r"printf 'c\377d'; exec sleep 600", "\udcfe"])
                while not jail.stdout: pass
                assert 0
            def test_passes(): pass
        """)
        result = inner.runpytest_subprocess(*arguments)
        result.assert_outcomes(failed=2, passed=1)
        result.stdout.fnmatch_lines([r"c\udcffd"])
        result.stdout.fnmatch_lines([r"E *'a\udcffb' == 'x'"])

    @pytest.mark.parametrize("style", ["long", "native"])
    def test_an_error_ends_in_the_tests_own_line(self, inner: pytest.Pytester, style: str) -> None:
        inner.makepyfile("""
            from pytest_nsjail import Elf
            def test_0(nsjail_run): nsjail_run([])  # here
            def test_1(nsjail_run): nsjail_run(["/nowhere/program"])  # here
            def test_2(nsjail_run): nsjail_run(["/bin/busybox", "false"], check=True)  # here
            def test_3(nsjail_start): nsjail_start(["/bin/busybox", "sleep", "9"]).run(["/bin/busybox", "false"], check=True)  # here
            def test_4(nsjail_image): nsjail_image("/bin/busybox")  # here
            def test_5(nsjail_image): nsjail_image(Elf("/bin/busybox")).stage(["/bin/busybox", "false"])  # here
        """)
        result = inner.runpytest_subprocess(f"--tb={style}")
        result.assert_outcomes(failed=6)
        errors = ["SpecError: nsjail_run([[][]]): there is no program to run. *", "*Error: */nowhere/program*", *["ProgramFailed: $ /bin/busybox false"] * 2]
        for error in (*errors, "SpecError: *", errors[2]):
            result.stdout.fnmatch_lines(["*# here", f"*{error}"])
        text = result.stdout.str()
        for wrong in ("/plugin/", "/runtime/", "/spec/", "direct cause", "During handling"):
            assert wrong not in text

    @pytest.mark.parametrize("style", ["auto", "short", "line", "no"])
    def test_in_every_style(self, inner: pytest.Pytester, style: str) -> None:
        inner.makepyfile("def test_it(nsjail_run): nsjail_run(['/bin/busybox', 'false'], check=True)")
        result = inner.runpytest_subprocess(f"--tb={style}")
        result.assert_outcomes(failed=1)
        assert ("ProgramFailed" in result.stdout.str().partition("short test summary")[0]) is (style != "no")
        assert "/plugin/" not in result.stdout.str()
        assert "/runtime/" not in result.stdout.str()

    def test_a_full_trace_keeps_every_frame(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("def test_it(nsjail_run): nsjail_run([])")
        assert "/runtime/flow.py" in inner.runpytest_subprocess("--full-trace").stdout.str()

    def test_an_error_in_a_users_fixture_ends_there(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            import pytest
            @pytest.fixture(scope="session")
            def image(nsjail_image): return nsjail_image(42)  # here
            def test_it(image): pass
        """)
        result = inner.runpytest_subprocess()
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines([">*# here", "E*SpecError: *42*", "test_*.py:3: SpecError"])
        assert "/plugin/" not in result.stdout.str()


@pytest.mark.parametrize(("call", "words"), [
    ("nsjail_run(['/bin/true'], timout=3)", "nsjail_run(): there is no argument 'timout'. It takes image, check, mounts, *, timeout, *"),
    ("nsjail_start(['/bin/true'], wait=3)", "nsjail_start(): there is no argument 'wait'. It takes image, mounts, *"),
    ("nsjail_image(entry_point=['sh'])", "nsjail_image(): there is no argument 'entry_point'. It takes env, workdir, user, entrypoint, cmd, name."),
    ("nsjail_run(['sh'], image='node')", "nsjail_run(): image='node' is no image. Write what nsjail_image(...) returned."),
    ("nsjail_start(['/bin/true'], publish={70000: 0})", "nsjail_start([[]'/bin/true'[]]): publish names the port 70000. *"),
    ("nsjail_start(['/bin/true'], publish={80: 70000})", "nsjail_start([[]'/bin/true'[]]): publish[[]80[]] names the port 70000. *"),
    ("nsjail_start(['/bin/true'], publish={80: '0.0.0.0:80'})", "*: publish leads 80 to '0.0.0.0:80'. Write a port, or an address and a port: *"),
    ("nsjail_start(['/bin/true'], publish={'8000:80': 0})", "*: publish names the port '8000:80'. Write {port in the jail: port of the host}, *"),
])
def test_what_cannot_be_meant(inner: pytest.Pytester, call: str, words: str) -> None:
    inner.makepyfile(f"def test_it(nsjail_run, nsjail_start, nsjail_image): {call}")
    inner.runpytest_subprocess().stdout.fnmatch_lines([f"E *SpecError: {words}"])


def test_one_that_ended_by_itself_is_told_with_its_end(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        def test_it(nsjail_start):
            jail = nsjail_start(["/bin/busybox", "sh", "-c", "echo last words; exit 5"])
            while not jail.ended: pass
            assert 0
    """)
    result = inner.runpytest_subprocess()
    result.stdout.fnmatch_lines(["*nsjail: exited with 5: /bin/busybox *", "last words"])
    result.stdout.no_fnmatch_line("*nsjail: started*")


def test_what_an_error_says_is_not_said_again(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        def test_it(nsjail_run):
            nsjail_run(["/bin/busybox", "true"])
            nsjail_run(["/bin/busybox", "sh", "-c", "echo last words; exit 5"], check=True)
    """)
    # The summary of failures may have it, too: whole, where pytest sees that it runs in a CI.
    said = inner.runpytest_subprocess().stdout.str().partition("short test summary")[0]
    assert said.count("last words\n") == 1
    assert "nsjail: exited with 0" in said

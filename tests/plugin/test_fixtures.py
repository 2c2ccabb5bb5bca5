"""The fixtures: their scopes, and the end of what they started."""

from __future__ import annotations

from textwrap import dedent

import pytest


def test_an_image_for_every_scope_and_one_root_for_all(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest
        from pytest_nsjail import Elf, Image

        def build(nsjail_image):
            return nsjail_image(Elf("/bin/busybox"))

        session, module, function = (pytest.fixture(build, scope=scope, name=scope) for scope in ("session", "module", "function"))

        def test_it(nsjail_run, session, module, function):
            assert isinstance(session, Image)
            assert session.digest == module.digest == function.digest
            assert session.rootfs.path == function.rootfs.path
            for image in (session, module, function):
                assert nsjail_run(["/bin/busybox", "true"], image=image).ok
    """)
    inner.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_run_in_a_fixture_of_any_scope(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest

        @pytest.fixture(scope="session")
        def version(nsjail_run):
            return nsjail_run(["/bin/busybox", "echo", "1.0"], check=True).stdout

        @pytest.fixture
        def teardown(nsjail_run):
            yield
            assert nsjail_run(["/bin/busybox", "true"]).ok

        @pytest.mark.parametrize("again", [1, 2])
        def test_it(version, teardown, again):
            assert version == "1.0\\n"
    """)
    inner.runpytest_subprocess().assert_outcomes(passed=2)


STARTED = """
    import os, time
    from pathlib import Path
    import pytest

    PIDS = []
    PATIENCE = [0.0]

    @pytest.fixture
    def started(nsjail_start):
        def start(*more):
            jail = nsjail_start(["/bin/busybox", "sleep", "600"])
            assert Path(f"/proc/{jail.host_pid}/cmdline").read_bytes() == b"/bin/busybox\\0sleep\\x00600\\0"
            PIDS.append(jail.host_pid)
            return jail
        return start

    def gone():
        assert PIDS
        deadline = time.monotonic() + PATIENCE[-1]
        while (there := [pid for pid in PIDS if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
            time.sleep(0.01)
        PIDS.clear()
        assert there == []
"""


class TestStarted:
    """What ``nsjail_start`` started is gone when its test is over, however that went."""

    @pytest.mark.parametrize(("test", "outcomes"), [
        pytest.param("def test_it(started): started(), started()", {"passed": 1}, id="passed"),
        pytest.param("def test_it(started): started(), started(); assert 0", {"failed": 1}, id="failed"),
        pytest.param("def test_it(started): started(); pytest.skip('')", {"skipped": 1}, id="skipped"),
        pytest.param("""
    @pytest.fixture
    def broken(started): yield started(); raise OSError
    def test_it(broken): pass""", {"passed": 1, "errors": 1}, id="error in a teardown before it"),
        pytest.param("""
    @pytest.fixture
    def broken(started): started(); raise OSError
    def test_it(broken): pass""", {"errors": 1}, id="error in a setup"),
        pytest.param("""
    @pytest.fixture
    def broken(): yield; raise OSError
    def test_it(started, broken): started()""", {"passed": 1, "errors": 1}, id="error in another teardown"),
        pytest.param("""
    def test_it(nsjail_start):
        jail = nsjail_start(["/bin/busybox", "sh", "-c", "trap '' TERM; echo; while :; do sleep 600; done"])
        while not jail.stdout: pass
        PIDS.extend(process.host_pid for process in jail.processes())""", {"passed": 1}, id="deaf to SIGTERM"),
        pytest.param("def test_it(started): started().close(); PATIENCE.append(5.0)", {"passed": 1}, id="closed by the test"),
        pytest.param("def test_it(started): started().stop()", {"passed": 1}, id="stopped by the test"),
        pytest.param("""
    def test_it(started):
        with started() as jail: assert jail""", {"passed": 1}, id="ended by a with statement"),
        pytest.param("""
    def test_it(started):
        with started() as jail: raise KeyError""", {"failed": 1}, id="a with statement that failed"),
        pytest.param("def test_it(started): os.kill(started().host_pid, 9)", {"passed": 1}, id="killed from outside"),
    ])
    def test_it_is_gone_with_its_test(self, inner: pytest.Pytester, test: str, outcomes: dict[str, int]) -> None:
        inner.makepyfile(STARTED + f"    {test.strip()}\n\n    def test_after(): gone()\n")
        outcomes = {**outcomes, "passed": outcomes.get("passed", 0) + 1}
        inner.runpytest_subprocess().assert_outcomes(**outcomes)

    def test_one_that_cannot_be_stopped_does_not_spare_the_others(self, inner: pytest.Pytester) -> None:
        inner.makepyfile(STARTED + """
    def test_it(started):
        jails = [started() for _ in range(3)]
        status = Path(f"/proc/{jails[1].host_pid}/status").read_text()
        init = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
        os.kill(int(init), 9)

    def test_after(): gone()
    """)
        result = inner.runpytest_subprocess()
        result.assert_outcomes(passed=2, errors=1)
        result.stdout.fnmatch_lines(["*SetupError: *the jail's init was killed from outside*"])

    def test_it_runs_as_long_as_its_test(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            import pytest

            @pytest.fixture
            def server(nsjail_start):
                return nsjail_start(["/bin/busybox", "sleep", "600"])

            def test_it(server):
                assert [process.argv for process in server.processes()] == [("/bin/busybox", "sleep", "600")]
                assert server.run(["/bin/busybox", "echo", "inside"]).stdout == "inside\\n"
        """)
        inner.runpytest_subprocess().assert_outcomes(passed=1)


SCOPED = """
    import pytest
    from pathlib import Path

    def test_{number}_session(session): PIDS["session"].add(session.host_pid)

    class Test{number}First:
        def test_class(self, of_class): PIDS["class"].add(of_class.host_pid)
        def test_again(self, of_class, module): PIDS["class"].add(of_class.host_pid)
        def test_module(self, module): PIDS["module"].add(module.host_pid)

    class Test{number}Second:
        def test_class(self, of_class, module):
            PIDS["class"].add(of_class.host_pid)
            PIDS["module"].add(module.host_pid)

    def test_{number}_function(function):
        PIDS["function"].add(function.host_pid)
        assert [scope for scope, pids in PIDS.items() for pid in pids if Path(f"/proc/{{pid}}").exists()] == ["session", "module", "function"]
"""


class TestScopes:
    """A jail lives as long as what its fixture is named after."""

    @pytest.fixture
    def scoped(self, inner: pytest.Pytester) -> pytest.Pytester:
        inner.makeconftest("""
            import pytest
            def start(start): return start(["/bin/busybox", "sleep", "600"])
            @pytest.fixture(scope="session")
            def session(nsjail_start_session): return start(nsjail_start_session)
            @pytest.fixture(scope="module")
            def module(nsjail_start_module): return start(nsjail_start_module)
            @pytest.fixture(scope="class")
            def of_class(nsjail_start_class): return start(nsjail_start_class)
            @pytest.fixture
            def function(nsjail_start): return start(nsjail_start)
        """)
        return inner

    def test_each_has_its_own_end(self, scoped: pytest.Pytester) -> None:
        scoped.makepyfile(test_a='PIDS = {"session": set(), "module": set(), "class": set(), "function": set()}\n' + dedent(SCOPED.format(number="a")))
        scoped.makepyfile(test_b="""
            def test_b(session, module):
                from test_a import PIDS
                assert {session.host_pid} == PIDS["session"]
                assert module.host_pid not in PIDS["module"]
                assert [len(PIDS[scope]) for scope in ("module", "class", "function")] == [1, 2, 1]
        """)
        scoped.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=7)

    def test_a_narrower_one_is_refused(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("""
            import pytest
            @pytest.fixture(scope="session")
            def server(nsjail_start): pass
            def test_it(server): pass
        """)
        result = inner.runpytest_subprocess()
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*ScopeMismatch*function scoped fixture nsjail_start*session*"])

    def test_every_worker_has_its_own(self, scoped: pytest.Pytester) -> None:
        scoped.makepyfile("""
            import os, pytest
            from pathlib import Path
            @pytest.mark.parametrize("number", range(8))
            def test_it(session, number):
                with open("pids", "a") as file: file.write(f"{os.getpid()} {session.host_pid}\\n")
        """)
        scoped.runpytest_subprocess("-n2", "-p", "xdist").assert_outcomes(passed=8)
        pairs = {tuple(line.split()) for line in (scoped.path / "pids").read_text().splitlines()}
        assert len(pairs) == 2
        assert len({worker for worker, _ in pairs}) == len({server for _, server in pairs}) == 2

"""What the plugin costs those who do not use it: nothing, on every system."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Whatever an engine room needs and a session without a jail does not.
DEAR = ("pytest_nsjail.runtime", "pytest_nsjail.jail", "pytest_nsjail.image", "pytest_nsjail.resolve", "pytest_nsjail.kernel.syscall", "elftools", "ctypes")

USED = """
    import os, sys
    import pytest

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(session):
        with open("modules", "w") as file:
            file.write("\\n".join(sys.modules))

    def pytest_runtest_call(item):
        if item.name != "test_last":
            return
        try:
            os.waitpid(-1, os.WNOHANG)
            open("child", "w").close()
        except ChildProcessError:
            pass
"""


def _loaded(names: list[str]) -> list[str]:
    return [name for name in names if any(name == dear or name.startswith(f"{dear}.") for dear in DEAR)]


def test_importing_the_plugin_imports_nothing_but_the_plugin() -> None:
    code = "import sys, pytest; before = set(sys.modules); import pytest_nsjail.plugin; print(*sorted(set(sys.modules) - before))"
    new = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert new[:2] == ["pytest_nsjail", "pytest_nsjail.plugin"]
    assert {name for name in new if not name.startswith("pytest_nsjail.plugin")} == {"pytest_nsjail"}


def test_declaring_imports_no_engine_room() -> None:
    code = "import sys; from pytest_nsjail import Bind, Copy, Elf, Limits, Users, NsjailError; print(*sys.modules)"
    assert _loaded(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()) == []


@pytest.mark.parametrize("used", [False, True])
def test_a_session_without_a_jail_starts_no_process_and_makes_no_store(inner: pytest.Pytester, used: bool) -> None:
    inner.makeconftest(USED)
    inner.makepyfile("""
        import os
        def test_without(): pass
    """ + ("    def test_with(nsjail_run): assert nsjail_run(['/bin/busybox', 'true']).ok\n" if used else ""))
    inner.makepyfile(test_last="def test_last(pytestconfig): pass")
    result = inner.runpytest_subprocess("--nsjail-store=store")
    result.assert_outcomes(passed=2 + used)
    assert bool(_loaded(inner.path.joinpath("modules").read_text().split())) is used
    assert inner.path.joinpath("child").exists() is used
    assert inner.path.joinpath("store").exists() is used


class TestAnotherSystem:
    """A system without namespaces, without the modules that only Linux has."""

    CODE = """
import sys, pytest
sys.platform = "darwin"
for name in ("fcntl", "resource", "ctypes", "_ctypes", "pwd", "grp"):
    sys.modules[name] = None
sys.exit(pytest.main(["-p", "no:tmpdir", "-p", "no:cacheprovider", "-rs", *sys.argv[1:]]))
"""

    @pytest.fixture
    def run(self, inner: pytest.Pytester):  # type: ignore[no-untyped-def]
        inner.makepyfile("""
            from pytest_nsjail import Elf, Limits

            def test_without(): pass
            def test_with(nsjail_run): raise SystemError
            def test_again(nsjail_image): raise SystemError
            def test_started(nsjail_start): raise SystemError
        """)
        return lambda *arguments: inner.run(sys.executable, "-c", self.CODE, *arguments)

    def test_it_is_said_and_the_tests_fail_in_words(self, run) -> None:  # type: ignore[no-untyped-def]
        result = run()
        result.assert_outcomes(passed=1, errors=3)
        words = "jails are made of Linux namespaces, and this is darwin"
        assert f"nsjail: unavailable: {words}" in result.outlines
        assert result.outlines.count(f"nsjail: {words}. Run this test on Linux, or set nsjail_unavailable = skip.") == 3
        result.stdout.no_fnmatch_line("*Traceback*")
        result.stdout.no_fnmatch_line("*During handling*")

    def test_or_are_skipped_with_the_reason(self, run) -> None:  # type: ignore[no-untyped-def]
        result = run("-o", "nsjail_unavailable=skip")
        result.assert_outcomes(passed=1, skipped=3)
        result.stdout.fnmatch_lines(["SKIPPED * nsjail: jails are made of Linux namespaces, and this is darwin.*"])

    def test_the_doctor_says_where_to_go(self, run) -> None:  # type: ignore[no-untyped-def]
        result = run("--nsjail-doctor")
        assert result.ret == 1
        assert result.outlines[-1].startswith("No jail can be made here: jails are made of Linux namespaces, and this is darwin. Run the tests on Linux")

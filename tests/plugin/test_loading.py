"""How the plugin is loaded and not, and what it adds to pytest."""

from __future__ import annotations

import pytest

from pytest_nsjail.kernel.probe import quick

# pytest-asyncio warns of what it is not told, and an option of its own is unknown where it is not loaded.
_STRICT = "[pytest]\nfilterwarnings =\n    error\n    ignore:The configuration option .asyncio_default\n"


@pytest.fixture(autouse=True)
def _as_installed(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed beside it is loaded too."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    monkeypatch.delenv("PYTEST_ADDOPTS")
    inner.makeini(_STRICT)


RUNS = """
    def test_runs(nsjail_run, nsjail_image, nsjail_start):
        assert nsjail_run(["/bin/busybox", "true"]).ok
"""


@pytest.mark.parametrize(("autoload", "arguments"), [
    pytest.param(True, [], id="entry point"),
    pytest.param(True, ["-p", "nsjail"], id="entry point and -p"),
    pytest.param(False, ["-p", "nsjail"], id="-p without autoload"),
    pytest.param(False, ["-p", "pytest_nsjail.plugin"], id="-p by its module"),
    pytest.param(True, ["--disable-plugin-autoload", "-p", "nsjail"], id="-p with the option against autoload"),
])
def test_it_is_loaded(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, autoload: bool, arguments: list[str]) -> None:
    if not autoload:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    inner.makepyfile(RUNS)
    result = inner.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=1)
    assert [line for line in result.outlines if line.startswith("nsjail:")] == [quick()]


@pytest.mark.parametrize(("autoload", "arguments"), [
    pytest.param(True, ["-p", "no:nsjail"], id="-p no"),
    pytest.param(False, [], id="without autoload"),
])
def test_it_is_not_loaded(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, autoload: bool, arguments: list[str]) -> None:
    if not autoload:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    inner.makepyfile(RUNS)
    result = inner.runpytest_subprocess(*arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'nsjail_run' not found"])
    assert not [line for line in result.outlines if line.startswith("nsjail:")]
    assert inner.runpytest_subprocess(*arguments, "--nsjail-doctor").ret == pytest.ExitCode.USAGE_ERROR


def test_the_header_is_what_the_doctor_finds(inner: pytest.Pytester) -> None:
    verdict = inner.runpytest_subprocess("--nsjail-doctor").outlines[-1]
    assert verdict.startswith("Jails can be made here (")
    header = "nsjail: " + verdict.removeprefix("Jails can be made here (").removesuffix(").")
    assert header in inner.runpytest_subprocess().outlines


def test_a_quiet_session_has_no_header(inner: pytest.Pytester) -> None:
    inner.makepyfile(RUNS)
    result = inner.runpytest_subprocess("-q")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*nsjail*")


def test_the_fixtures_are_told_with_their_scopes(inner: pytest.Pytester) -> None:
    result = inner.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines([
        "nsjail_image [[]session scope[]] -- *plugin/fixtures.py:*",
        "    Build an image from what it depends on: ``nsjail_image(?dependencies, env=, workdir=, user=, entrypoint=, cmd=, name=)``.",
        "nsjail_run [[]session scope[]] -- *plugin/fixtures.py:*",
        "    Run a program in a jail of its own and wait for its end:*",
        "nsjail_start -- *plugin/fixtures.py:*",
        "    Start a program in a jail of its own and return when it is ready; it is stopped at the end of the test.",
        "nsjail_start_session [[]session scope[]] -- *plugin/fixtures.py:*",
        "    Start a program in a jail of its own and return when it is ready; it is stopped at the end of the session.",
    ])
    result.stdout.no_fnmatch_line("_nsjail*")


def test_the_options_are_told(inner: pytest.Pytester) -> None:
    result = inner.runpytest_subprocess("--help")
    result.stdout.fnmatch_lines(["hermetic tests (pytest-nsjail):", "*--nsjail-store=DIR*", "*--nsjail-doctor*"])
    result.stdout.fnmatch_lines(["*nsjail_store (string):*", "*nsjail_unavailable (string):*"])


def test_a_strict_session_has_nothing_to_say_against_it(inner: pytest.Pytester) -> None:
    inner.makeini(f"{_STRICT}nsjail_unavailable = fail\nnsjail_store = store\n")
    inner.makepyfile(RUNS)
    inner.runpytest_subprocess("--strict-markers", "--strict-config").assert_outcomes(passed=1)
    assert inner.runpytest_subprocess("--strict-markers", "--strict-config", "--markers").ret == 0


class TestDoctor:
    def test_no_test_is_collected(self, inner: pytest.Pytester) -> None:
        inner.makepyfile("raise SystemError('collected')")
        inner.makeconftest("def pytest_collection(): raise SystemError('collected')")
        result = inner.runpytest_subprocess("--nsjail-doctor")
        assert result.ret == 0
        assert result.outlines[0].startswith("pytest-nsjail on Linux ")
        assert result.outlines[-1].startswith("Jails can be made here (")
        assert "collected" not in result.stdout.str() + result.stderr.str()

    @pytest.mark.parametrize("place", ["option", "ini"])
    def test_it_looks_at_the_store_of_the_session(self, inner: pytest.Pytester, place: str) -> None:
        if place == "ini":
            inner.makeini("[pytest]\nnsjail_store = elsewhere\n")
        result = inner.runpytest_subprocess("--nsjail-doctor", *(["--nsjail-store=elsewhere"] if place == "option" else []))
        assert result.ret == 0
        assert f"{inner.path}/elsewhere" in "".join(line.strip() for line in result.outlines)
        assert not (inner.path / "elsewhere").exists()

    def test_a_store_that_cannot_be_is_an_error_of_use(self, inner: pytest.Pytester) -> None:
        inner.path.joinpath("file").touch()
        result = inner.runpytest_subprocess("--nsjail-doctor", "--nsjail-store=file")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: *{inner.path}/file is no directory. Write the path of a directory*"])

"""What a user sets: command line over ini file over environment."""

from __future__ import annotations

from pathlib import Path

import pytest

RUNS = "def test_runs(nsjail_run): assert nsjail_run(['/bin/busybox', 'true']).ok"


@pytest.mark.parametrize(("told", "used"), [
    (("option", "ini", "environment"), "option"),
    (("ini", "environment"), "ini"),
    (("environment",), "environment"),
    ((), "home/.cache/pytest-nsjail"),
    (("cache",), "cache/pytest-nsjail"),
])
def test_where_the_store_is(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, told: tuple[str, ...], used: str) -> None:
    monkeypatch.setenv("HOME", str(inner.path / "home"))
    monkeypatch.delenv("PYTEST_NSJAIL_STORE")
    if "environment" in told:
        monkeypatch.setenv("PYTEST_NSJAIL_STORE", str(inner.path / "environment"))
    if "cache" in told:
        monkeypatch.setenv("XDG_CACHE_HOME", str(inner.path / "cache"))
    if "ini" in told:
        inner.makeini("[pytest]\nnsjail_store = ini\n")
    inner.makepyfile(RUNS)
    inner.runpytest_subprocess(*(["--nsjail-store=option"] if "option" in told else [])).assert_outcomes(passed=1)
    names = ("option", "ini", "environment", "home/.cache/pytest-nsjail", "cache/pytest-nsjail")
    assert [name for name in names if (inner.path / name / "roots").is_dir()] == [used]


def test_a_relative_path_in_the_ini_file_is_relative_to_the_ini_file(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.makeini("[pytest]\nnsjail_store = mine\n")
    below = inner.mkdir("below")
    (below / "test_it.py").write_text(RUNS)
    monkeypatch.chdir(below)
    inner.runpytest_subprocess().assert_outcomes(passed=1)
    assert (inner.path / "mine/roots").is_dir()
    assert not (below / "mine").exists()


@pytest.mark.parametrize("place", ["option", "environment"])
def test_a_relative_path_elsewhere_is_relative_to_where_pytest_was_started(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, place: str,
) -> None:
    if place == "environment":
        monkeypatch.setenv("PYTEST_NSJAIL_STORE", "mine")
    inner.makepyfile("""
        import os
        def test_it(tmp_path, request):
            os.chdir(tmp_path)
            assert request.getfixturevalue("nsjail_run")(["/bin/busybox", "true"]).ok
            assert os.listdir() == []
    """)
    inner.runpytest_subprocess(*(["--nsjail-store=mine"] if place == "option" else [])).assert_outcomes(passed=1)
    assert (inner.path / "mine/roots").is_dir()


def test_the_ini_file_may_say_home(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(inner.path / "home"))
    inner.makeini("[pytest]\nnsjail_store = ~/mine\n")
    inner.makepyfile(RUNS)
    inner.runpytest_subprocess().assert_outcomes(passed=1)
    assert (inner.path / "home/mine/roots").is_dir()


def test_what_an_unavailable_jail_means_is_one_of_two_words(inner: pytest.Pytester) -> None:
    inner.makeini("[pytest]\nnsjail_unavailable = ignore\n")
    inner.makepyfile("def test_it(): pass")
    result = inner.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: nsjail_unavailable = ignore: write 'fail' or 'skip'"])
    result.stdout.no_fnmatch_line("*collected*")


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("store", "words"), [
    ("file", "nsjail: --nsjail-store=*file: *file is no directory. Write the path of a directory of yours: *"),
    ("file/below", "nsjail: *file/below*"),
    ("", "nsjail: --nsjail-store=: the path is empty. Write the path *"),
    ("/proc/self", "nsjail: --nsjail-store=/proc/self: * is in /proc, which holds no files of yours. *"),
    ("open", "nsjail: *open*"),
])
def test_a_store_that_cannot_be_used_fails_the_test_in_words(inner: pytest.Pytester, store: str, words: str, skip: bool) -> None:
    """A mistake to mend, and not a host that can make no jail: no reason to skip."""
    inner.path.joinpath("file").touch()
    Path("open").mkdir()
    Path("open").chmod(0o777)
    inner.makepyfile(RUNS)
    result = inner.runpytest_subprocess(f"--nsjail-store={store}", *(["-o", "nsjail_unavailable=skip"] if skip else []))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([words])
    assert "/plugin/" not in result.stdout.str()
    result.stdout.no_fnmatch_line("*During handling*")


def test_the_ini_file_is_named_for_its_store(inner: pytest.Pytester) -> None:
    inner.path.joinpath("file").touch()
    inner.makeini("[pytest]\nnsjail_store = file\n")
    inner.makepyfile(RUNS)
    result = inner.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["nsjail: nsjail_store = file: *file is no directory. *"])

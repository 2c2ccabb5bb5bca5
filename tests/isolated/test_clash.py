"""Plugins that have the same marker, or their own way to run a test: it is said at the start, and nobody picks one silently."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

# Installed beside this plugin, pytest-isolated would end every session here: CI has an environment for the real one, and elsewhere a stand-in has its names.
_REAL = importlib.util.find_spec("pytest_isolated") is not None
MARKED = "import os, pytest\nHERE = os.getpid()\n@pytest.mark.isolated\ndef test_it(): assert os.getpid() != HERE\ndef test_other(): pass\n"


def _stand_in(directory: Path) -> None:
    """A package as pip leaves it, with the names of pytest-isolated's and its marker."""
    package, information = directory / "pytest_isolated", directory / "pytest_isolated-0.6.0.dist-info"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text("def pytest_configure(config): config.addinivalue_line('markers', 'isolated(group, timeout, serial): another one')\n")
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-isolated\nVersion: 0.6.0\n")
    (information / "entry_points.txt").write_text("[pytest11]\nisolated = pytest_isolated.plugin\n")


@pytest.fixture
def beside(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Sessions that load what is installed, pytest-isolated among it."""
    if not _REAL:
        _stand_in(inner.mkdir("installed"))
        monkeypatch.setenv("PYTHONPATH", f"{inner.path / 'installed'}:{os.environ['PYTHONPATH']}")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    others = " ".join(f"-p no:{name}" for name in ("asyncio", "randomly", "benchmark", "xdist", "pytest_cov", "timeout", "rerunfailures", "anyio"))
    monkeypatch.setenv("PYTEST_ADDOPTS", f"-p nsjail -p no:cacheprovider {others}")
    inner.makepyfile(test_it=MARKED)
    return inner


def test_two_markers_of_one_name_are_refused(beside: pytest.Pytester) -> None:
    for arguments in ((), ("--nsjail",), ("--collect-only",)):
        result = beside.runpytest_subprocess(*arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: pytest-nsjail and pytest-isolated both have a marker 'isolated', and *"])
        result.stdout.no_fnmatch_line("*test_it*")


def test_each_way_out_leads_out(beside: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    result = beside.runpytest_subprocess()
    ways = [word.strip("',") for word in str(result.stderr).split() if word.startswith("no:")]
    assert ways == ["no:isolated", "no:nsjail"]
    beside.runpytest_subprocess("-p", "no:isolated").assert_outcomes(passed=2)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider")
    other = beside.runpytest_subprocess("-p", "no:nsjail", "--markers")
    other.stdout.fnmatch_lines(["@pytest.mark.isolated*"])
    other.stdout.no_fnmatch_line("*--nsjail*")


def test_the_way_out_for_good(beside: pytest.Pytester) -> None:
    beside.makeini("[pytest]\naddopts = -p no:isolated\n")
    beside.runpytest_subprocess("--nsjail").assert_outcomes(passed=2)

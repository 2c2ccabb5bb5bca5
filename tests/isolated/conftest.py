"""Inner sessions for the tests of isolated tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pytest_nsjail

_PROJECT = str(Path(pytest_nsjail.__file__).parents[1])


@pytest.fixture(scope="session")
def isolated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store for all inner sessions of a worker."""
    return tmp_path_factory.mktemp("isolated") / "store"


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, isolated_store: Path) -> pytest.Pytester:
    """Inner sessions that know nothing of the outer one, with no plugin but this one."""
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "XDG_")) and name != "PYTEST_DEBUG_TEMPROOT"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [_PROJECT, os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("PYTEST_NSJAIL_STORE", str(isolated_store))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p nsjail -p no:cacheprovider")
    pytester.makeini("[pytest]\n")
    return pytester

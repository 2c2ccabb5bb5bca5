"""Where the store is."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from pytest_nsjail.errors import SpecError
from pytest_nsjail.image.location import store_directory

ENVIRON = {"PYTEST_NSJAIL_STORE": "/told", "XDG_CACHE_HOME": "/cache", "HOME": "/home/me"}


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in ENVIRON.items() if name not in names}


def test_the_order() -> None:
    assert store_directory("/option", ENVIRON) == "/option"
    assert store_directory(None, ENVIRON) == "/told"
    assert store_directory(None, without("PYTEST_NSJAIL_STORE")) == "/cache/pytest-nsjail"
    assert store_directory(None, without("PYTEST_NSJAIL_STORE", "XDG_CACHE_HOME")) == "/home/me/.cache/pytest-nsjail"
    assert store_directory(None, {}) == pwd.getpwuid(os.getuid()).pw_dir.rstrip("/") + "/.cache/pytest-nsjail"


def test_empty_and_relative_variables_count_as_unset() -> None:
    assert store_directory(None, {**ENVIRON, "PYTEST_NSJAIL_STORE": "", "XDG_CACHE_HOME": "relative"}) == "/home/me/.cache/pytest-nsjail"


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_directory("here/./it", ENVIRON) == str(tmp_path / "here/it")
    assert store_directory("~/store", ENVIRON) == "/home/me/store"
    assert store_directory(None, {"PYTEST_NSJAIL_STORE": "rel"}) == str(tmp_path / "rel")
    assert store_directory("~other", ENVIRON) == str(tmp_path / "~other")


@pytest.mark.parametrize(("option", "said"), [
    ("", "the path is empty"), ("/a\0b", "NUL byte"), ("/proc/self", r"is in /proc"), ("/sys", r"/sys is in /sys"), ("/etc/passwd", "is no directory"),
])
def test_what_cannot_be_a_store(option: str, said: str) -> None:
    with pytest.raises(SpecError, match=rf"--nsjail-store=.*{said}.*Write the path of a directory of yours"):
        store_directory(option, ENVIRON)


def test_a_symlink_into_proc_is_seen(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc/self")
    with pytest.raises(SpecError, match="is in /proc"):
        store_directory(str(tmp_path / "link/fd"), ENVIRON)


def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    with pytest.raises(SpecError, match=r"HOME is not set, and uid 2147483641 has no entry in passwd"):
        store_directory(None, {})

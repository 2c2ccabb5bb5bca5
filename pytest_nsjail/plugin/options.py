"""What a user sets: command line over ini file over environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_nsjail.errors import NsjailError


def add(parser: pytest.Parser) -> None:
    """Declare the options, each with its twin in the ini file."""
    group = parser.getgroup("nsjail", "hermetic tests (pytest-nsjail)")
    store = "where images are kept; default: $PYTEST_NSJAIL_STORE, or pytest-nsjail in $XDG_CACHE_HOME or ~/.cache"
    group.addoption("--nsjail-store", metavar="DIR", default=None, help=store)
    doctor = "try each step of making a jail, say what this host refuses and the way out, and exit"
    group.addoption("--nsjail-doctor", action="store_true", default=False, help=doctor)
    parser.addini("nsjail_store", f"{store} (relative to the ini file)", default="")
    parser.addini("nsjail_unavailable", "what a test that needs a jail does where none can be made: fail, or skip", default="fail")


def check(config: pytest.Config) -> None:
    """Refuse what cannot be meant, before any test is collected.

    :raises pytest.UsageError: with the option, the value, and what to write instead.
    """
    chosen = config.getini("nsjail_unavailable")
    if chosen not in ("fail", "skip"):
        raise pytest.UsageError(f"nsjail_unavailable = {chosen}: write 'fail' or 'skip'")


def store(config: pytest.Config) -> str:
    """The store's directory.

    :raises NsjailError: for one that cannot be used.
    """
    from pytest_nsjail.image.location import store_directory

    option = config.getoption("--nsjail-store")
    ini = config.getini("nsjail_store")
    if option is None and ini:
        option = str((config.inipath.parent if config.inipath else config.rootpath) / os.path.expanduser(ini))
    return store_directory(option, os.environ)


def unavailable(config: pytest.Config, error: NsjailError) -> None:
    """End a test that needs a jail where none can be made: skip it where the user allowed that, else let it fail by the error."""
    if config.getini("nsjail_unavailable") == "skip":
        pytest.skip(f"nsjail: {error}", allow_module_level=True)

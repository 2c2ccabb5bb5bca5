"""What a user sets: command line over ini file over environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from pytest_nsjail.errors import NsjailError


def add(parser: pytest.Parser) -> None:
    """Declare the options, each with its twin in the ini file."""
    group = parser.getgroup("nsjail", "hermetic tests (pytest-nsjail)")
    store = "where images are kept; default: $PYTEST_NSJAIL_STORE, or pytest-nsjail in $XDG_CACHE_HOME or ~/.cache"
    group.addoption("--nsjail-store", metavar="DIR", default=None, help=store)
    group.addoption("--nsjail", action="store_true", default=False, help="isolate every test, but those marked isolated(False)")
    doctor = "try each step of making a jail, say what this host refuses and the way out, and exit"
    group.addoption("--nsjail-doctor", action="store_true", default=False, help=doctor)
    parser.addini("nsjail_store", f"{store} (relative to the ini file)", default="")
    parser.addini("nsjail_unavailable", "what a test that needs a jail does where none can be made: fail, or skip", default="fail")
    parser.addini("nsjail_isolate", "which tests are isolated: marked ones, or all", default="marked")
    parser.addini("nsjail_leftovers", "what processes do that an isolated test leaves running: report them, or fail the test", default="report")


def check(config: pytest.Config) -> None:
    """Refuse what cannot be meant, before any test is collected.

    :raises pytest.UsageError: with the option, the value, and what to write instead.
    """
    for name, first, second in (("unavailable", "fail", "skip"), ("isolate", "marked", "all"), ("leftovers", "report", "fail")):
        chosen = config.getini(f"nsjail_{name}")
        if chosen not in (first, second):
            raise pytest.UsageError(f"nsjail_{name} = {chosen}: write {first!r} or {second!r}")


def echo(config: pytest.Config) -> tuple[int, int] | None:
    """Where what programs write is repeated as it comes, their output and their errors: where pytest itself is read, with ``-s``; None without."""
    if config.getoption("capture", None) != "no":
        return None
    # What a worker of pytest-xdist writes to its standard output nobody reads.
    streams = (2, 2) if hasattr(config, "workerinput") else (1, 2)
    try:
        return streams if all(map(os.fstat, streams)) else None
    except OSError:  # it is closed
        return None


def store(config: pytest.Config) -> str:
    """The store's directory.

    :raises NsjailError: for one that cannot be used.
    """
    from pytest_nsjail.errors import SpecError
    from pytest_nsjail.image.location import store_directory

    # A test may have changed the working directory before the first jail was wanted.
    here = config.invocation_params.dir
    option, ini = config.getoption("--nsjail-store"), config.getini("nsjail_store")
    environ = dict(os.environ)
    if told := environ.get("PYTEST_NSJAIL_STORE"):
        environ["PYTEST_NSJAIL_STORE"] = _beside(here, told)
    if option is not None or not ini:
        return store_directory(option and _beside(here, option), environ)
    try:
        return store_directory(_beside(config.inipath.parent if config.inipath else config.rootpath, ini), environ)
    except SpecError as error:
        raise SpecError(f"nsjail_store = {ini}", error.problem, error.instead) from None


def _beside(directory: Path, path: str) -> str:
    return path if path.startswith("~") else str(directory / path)


def doctors_store(config: pytest.Config) -> str | None:
    """The store's directory, for the doctor to look at; None where there can be none.

    :raises pytest.UsageError: for one that cannot be used.
    """
    from pytest_nsjail.errors import NsjailError

    if not sys.platform.startswith("linux"):
        return None
    try:
        return store(config)
    except NsjailError as error:
        raise pytest.UsageError(str(error)) from None


def unavailable(config: pytest.Config, error: NsjailError) -> NoReturn:
    """End a test that needs a jail where none can be made: skip it where the user allowed that, else let it fail; by the error's words."""
    if config.getini("nsjail_unavailable") == "skip":
        raise pytest.skip.Exception(f"nsjail: {error}", allow_module_level=True) from None
    fail(error)


def fail(error: NsjailError) -> NoReturn:
    """Fail a test by the error's words alone: there is no line of the user's to show."""
    raise pytest.fail.Exception(f"nsjail: {error}", pytrace=False) from None

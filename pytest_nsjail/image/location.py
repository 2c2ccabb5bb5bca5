"""Where the store is, unless told and when told."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from pytest_nsjail.errors import SpecError

_INSTEAD = "Write the path of a directory of yours: --nsjail-store=/var/tmp/nsjail."


def store_directory(option: str | None, environ: Mapping[str, str]) -> str:
    """The store's directory, absolute: the option, ``$PYTEST_NSJAIL_STORE``, ``$XDG_CACHE_HOME/pytest-nsjail`` or ``~/.cache/pytest-nsjail``.

    :param option: what ``--nsjail-store`` says; relative to the working directory.
    :param environ: the environment.
    :raises SpecError: for a path that cannot be a store, or where there is neither path nor home.
    """
    if option is not None:
        return _checked(f"--nsjail-store={option}", option, environ)
    told = environ.get("PYTEST_NSJAIL_STORE")
    if told:
        return _checked(f"PYTEST_NSJAIL_STORE={told}", told, environ)
    cache = environ.get("XDG_CACHE_HOME", "")
    # XDG Base Directory Specification: a relative path is to be ignored.
    if os.path.isabs(cache):
        return _checked(f"XDG_CACHE_HOME={cache}", f"{cache}/pytest-nsjail", environ)
    home = _home("the store of pytest-nsjail", environ)
    return _checked(f"HOME={home}", f"{home}/.cache/pytest-nsjail", environ)


def _checked(declaration: str, path: str, environ: Mapping[str, str]) -> str:
    if not path:
        raise SpecError(declaration, "the path is empty", _INSTEAD)
    if "\0" in path:
        raise SpecError(declaration, "the path holds a NUL byte, and no name of the kernel's can", _INSTEAD)
    # A shell expands this; pytest.ini and tox.ini do not.
    if path == "~" or path.startswith("~/"):
        path = _home(declaration, environ) + path[1:]
    absolute = os.path.abspath(path)
    real = os.path.realpath(absolute)
    for kernel in ("/proc", "/sys"):
        if f"{real}/".startswith(f"{kernel}/"):
            raise SpecError(declaration, f"{real} is in {kernel}, which holds no files of yours", _INSTEAD)
    if os.path.lexists(absolute) and not os.path.isdir(absolute):
        raise SpecError(declaration, f"{absolute} is no directory", _INSTEAD)
    return absolute


def _home(declaration: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "")
    if os.path.isabs(home):
        return home.rstrip("/")
    try:
        return pwd.getpwuid(os.getuid()).pw_dir.rstrip("/")
    except KeyError:
        raise SpecError(declaration, f"HOME is not set, and uid {os.getuid()} has no entry in passwd(5)", _INSTEAD) from None

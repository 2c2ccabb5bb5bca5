"""What the isolation of a test may have to do with its failure, in words: errors that a test outside would not have had."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_nsjail.spec.isolated import IsolatedSpec

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup  # type: ignore[import-not-found]

_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)
_FRESH = ("/tmp", "/var/tmp", "/run", "/dev/shm")


def words(error: BaseException, spec: IsolatedSpec, kept: tuple[str, ...]) -> str:
    """What there is to say; empty: nothing.

    :param error: what the test failed by, with all that it came of.
    :param kept: directories that are the same inside and outside.
    """
    found = [said for one in _all(error) if isinstance(one, OSError) and (said := _said(one, spec, kept))]
    return "\n".join(dict.fromkeys(found))


def _all(error: BaseException) -> Iterator[BaseException]:
    """An exception, those in it, and those that it came of, as far as they are shown."""
    found: list[BaseException | None] = [error]
    seen: set[int] = set()
    while found:
        one = found.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        found += [one.__cause__, None if one.__suppress_context__ else one.__context__]
        found += one.exceptions if isinstance(one, BaseExceptionGroup) else ()


def _said(error: OSError, spec: IsolatedSpec, kept: tuple[str, ...]) -> str:
    path = error.filename if isinstance(error.filename, str) else ""
    if spec.network == "none":
        if isinstance(error, socket.gaierror) or error.errno in _UNREACHABLE:
            return (
                "The test has a network of its own, in which there is nothing but 127.0.0.1 and ::1, and no name server. "
                "For the host's: @pytest.mark.isolated(network='host'), or isolated(False)."
            )
        # Of another kind is what jail.dial() raises.
        if type(error) is ConnectionRefusedError and not path:
            return (
                "Its 127.0.0.1 is its own: a server of the host, or of a fixture of a wider scope, is not on it. For the host's network: "
                "@pytest.mark.isolated(network='host'). What nsjail_start_session() and its kin started is reached by jail.dial(port)."
            )
    if error.errno == errno.EROFS and path:
        place = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
        return (
            f"The host's files are read-only here, and so is {path}. Write below tmp_path, or let a directory be written to: "
            f"@pytest.mark.isolated(writable=[{place!r}])."
        )
    if error.errno in (errno.EACCES, errno.EPERM) and path and spec.user is not None:
        return f"The test runs as {spec.user!r}, as declared, and {path} may be another's: tmp_path is that of who runs pytest."
    if error.errno == errno.ENOENT and os.path.isabs(path) and (place := _hidden(path, kept)):
        return (
            f"{place} is a fresh, empty directory here, whatever is in the host's. What a fixture of a wider scope leaves for its tests belongs below "
            "tmp_path_factory.mktemp(...), which is the same inside; for any other directory: @pytest.mark.isolated(writable=[...])."
        )
    return ""


def _hidden(path: str, kept: tuple[str, ...]) -> str:
    """The directory of the host's that is not the test's, and that a path is below; empty: none."""
    below = {str(parent) for parent in PurePath(os.path.normpath(path)).parents}
    if not below.isdisjoint((*kept, sys.prefix, sys.base_prefix)):
        return ""
    if not below.isdisjoint(_homes()):
        return "The home directory"
    return next((place for place in (*_FRESH, tempfile.gettempdir()) if place in below), "")


def _homes() -> tuple[str, ...]:
    """The test's own, and the user's."""
    try:
        users = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        users = "/"
    # A user of a container's may have the root for one, and that is not hidden.
    return tuple(home for home in (os.path.expanduser("~"), users) if home != "/")

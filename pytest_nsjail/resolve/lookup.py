"""Which file a command name means: the PATH search of execvp(3)."""

from __future__ import annotations

import posixpath

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.resolve.walk import Walker

# What environ(7) login programs give root: the PATH that env(1) is assumed to run with.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def candidates(argv0: str, path: str) -> list[str]:
    """Every pathname that execvp(3) would try, in order. An empty element of ``path`` is the working directory, taken to be ``/``."""
    if "/" in argv0:
        return [posixpath.join("/", argv0)]
    return [posixpath.join("/", directory, argv0) for directory in path.split(":")] if argv0 else []


def find(argv0: str, path: str, view: FileView) -> str | None:
    """The file that running ``argv0`` with this ``path`` would execute, as a path of the view; None where there is none.

    :param argv0: a name, looked up in ``path``, or a path with a slash, which is itself.
    :param path: directories, separated by colons.
    """
    walker = Walker(view)
    for candidate in candidates(argv0, path):
        if "/" in argv0 or executable(candidate, walker):
            return candidate
    return None


def executable(path: str, walker: Walker) -> bool:
    """Whether ``path`` leads to a regular file that somebody may execute."""
    try:
        stat = walker.walk(path).stat
    except ResolveError:  # ELOOP: execvp(3) tries the next directory
        return False
    return stat is not None and stat.kind is Kind.FILE and bool(stat.mode & 0o111)

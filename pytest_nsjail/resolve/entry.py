"""One path of an image, and the closure: all of them, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_nsjail.fileview import FileView, Kind


@dataclass(frozen=True)
class Content:
    """Where a regular file's bytes come from: a path of a view (the host, a stage)."""

    view: FileView
    path: str


@dataclass(frozen=True)
class Entry:
    """One path of an image.

    :param path: absolute and normal, inside the image.
    :param kind: FILE, DIRECTORY or SYMLINK; an image holds nothing else.
    :param mode: the permission bits. Setuid and setgid are dropped: a jail runs with no_new_privs.
    :param content: a FILE's bytes: literal, or where to read them.
    :param target: a SYMLINK's target, verbatim.
    :param mtime_ns: a FILE's modification time; 0 for what the declaration itself makes.
    :param wanted_by: who wants it, most specific first: ``("needed by /usr/bin/git", "Elf('/usr/bin/git')")``.
    """

    path: str
    kind: Kind
    mode: int
    wanted_by: tuple[str, ...]
    content: Content | bytes | None = None
    target: str = ""
    mtime_ns: int = 0


@dataclass(frozen=True)
class Closure:
    """Every path that must exist for the declared programs to start and run.

    Parents stand before their children; every parent of an entry is an entry, but for the root, which is always there.
    """

    entries: Mapping[str, Entry]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

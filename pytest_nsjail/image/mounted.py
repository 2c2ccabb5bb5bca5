"""A root with other trees mounted over some of its paths: a jail's root and its binds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from pytest_nsjail.fileview import FileView, Kind, Stat


class MountedView:
    """The FileView of a root and what is mounted in it.

    :param base: the root.
    :param binds: target in the root: the view that is seen there, and which of its paths. Both paths physical: mount(2) has
        followed their symlinks already. The longest target that leads to a path decides.
    """

    def __init__(self, base: FileView, binds: Mapping[str, tuple[FileView, str]]) -> None:
        self._base = base
        self._binds = dict(sorted(binds.items(), key=lambda bind: len(bind[0]), reverse=True))

    def lstat(self, path: str) -> Stat | None:
        """The path's metadata, or None where nothing is. A target's parents exist, as directories."""
        view, source = self._seen(path)
        found = view.lstat(source)
        if self._below(path) and (found is None or found.kind is not Kind.DIRECTORY):
            return Stat(Kind.DIRECTORY, 0o755, 0, 0, (0, 0))
        return found

    def readlink(self, path: str) -> str:
        """A symlink's target, verbatim.

        :raises OSError: where there is no symlink.
        """
        view, source = self._seen(path)
        return view.readlink(source)

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, mount points among them, sorted.

        :raises OSError: where there is no directory, or it may not be read.
        """
        view, source = self._seen(path)
        mounted = self._below(path)
        found = view.lstat(source)
        if mounted and (found is None or found.kind is not Kind.DIRECTORY):
            return sorted(mounted)
        return sorted(mounted.union(view.listdir(source)))

    def open(self, path: str) -> BinaryIO:
        """A regular file, opened for reading.

        :raises OSError: where there is none, or it may not be read.
        """
        view, source = self._seen(path)
        return view.open(source)

    def _seen(self, path: str) -> tuple[FileView, str]:
        """Whose path this is, and what it is called there."""
        for target, (view, source) in self._binds.items():
            if path == target or path.startswith(target.rstrip("/") + "/"):
                rest = path[len(target):].strip("/")
                return view, f"{source.rstrip('/')}/{rest}" if rest else source
        return self._base, path

    def _below(self, path: str) -> set[str]:
        """The next names on the way from a path to the targets below it."""
        start = path.rstrip("/") + "/"
        return {target[len(start):].partition("/")[0] for target in self._binds if target.startswith(start) and target != start}

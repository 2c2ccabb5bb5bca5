"""An overlay's two directories as one: what the program in the jail saw."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from pytest_nsjail.fileview import FileView, Kind, Stat
from pytest_nsjail.image.rooted import RootedView
from pytest_nsjail.kernel import layer_scan


class LayerView:
    """The FileView of an overlay, without mounting it.

    :param upper: its upper directory, with whiteouts and opaque directories as the kernel left them.
    :param lower: what it lies upon.
    """

    def __init__(self, upper: RootedView, lower: FileView) -> None:
        self._upper = upper
        self._lower = lower

    def lstat(self, path: str) -> Stat | None:
        """The path's metadata, or None where nothing is, or where a whiteout hides it."""
        view = self._where(path)
        return view.lstat(path) if view else None

    def readlink(self, path: str) -> str:
        """A symlink's target, verbatim.

        :raises OSError: where there is no symlink.
        """
        return self._there(path).readlink(path)

    def open(self, path: str) -> BinaryIO:
        """A regular file, opened for reading.

        :raises OSError: where there is none, or it may not be read.
        """
        return self._there(path).open(path)

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, of both layers, sorted.

        :raises OSError: where there is no directory, or it may not be read.
        """
        above, through = self._look(path)
        if not above:
            return self._there(path).listdir(path)
        written = set(self._upper.listdir(path))
        names = {name for name in written if self._look(f"{path}/{name}")[0]}
        under = self._lower.lstat(path) if through else None
        if under and under.kind is Kind.DIRECTORY:
            names |= set(self._lower.listdir(path)) - written
        return sorted(names)

    def _where(self, path: str) -> FileView | None:
        above, through = self._look(path)
        if above:
            return self._upper
        return self._lower if through else None

    def _there(self, path: str) -> FileView:
        view = self._where(path)
        if view is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return view

    def _look(self, path: str) -> tuple[bool, bool]:
        """Whether the upper has the path, and whether the lower is seen through it."""
        through = True
        at = ""
        for part in ("", *(part for part in path.split("/") if part)):
            at = f"{at}/{part}" if part else at
            try:
                with self._upper.parent(at) as (directory, name):
                    status = layer_scan.lstat(name, directory)
                    if status is None:
                        return False, through
                    if layer_scan.is_whiteout(name, status, directory):
                        return False, False
                    if not stat.S_ISDIR(status.st_mode):
                        return at.strip("/") == path.strip("/"), False
                    opened = layer_scan.descend(directory, name, os.O_RDONLY)
            except (FileNotFoundError, NotADirectoryError):
                return False, through
            try:
                through = through and not layer_scan.is_opaque(opened)
            finally:
                os.close(opened)
        return True, through

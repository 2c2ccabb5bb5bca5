"""A directory taken as a root: a root file system in the store, an overlay's upper directory."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pytest_nsjail.fileview import Stat
from pytest_nsjail.image import physical
from pytest_nsjail.kernel.layer_scan import descend


class RootedView:
    """The FileView of a directory. No path leads out of it: not by ``..``, and by no symlink, as none is followed.

    :param root: the directory, as a path or as a descriptor (which is duplicated).
    :raises OSError: where there is no directory.
    """

    def __init__(self, root: int | str) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self._root = os.open(".", flags, dir_fd=root) if isinstance(root, int) else os.open(root, flags)
        self._close = weakref.finalize(self, os.close, self._root)

    def lstat(self, path: str) -> Stat | None:
        """The path's metadata, or None where nothing is (or a parent is no directory)."""
        try:
            with self.parent(path) as (directory, name):
                return physical.lstat(name, directory)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def readlink(self, path: str) -> str:
        """A symlink's target, verbatim.

        :raises OSError: where there is no symlink.
        """
        with self.parent(path) as (directory, name):
            return os.readlink(name, dir_fd=directory)

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, sorted.

        :raises OSError: where there is no directory, or it may not be read.
        """
        directory = descend(self._root, os.path.normpath("/" + path), os.O_RDONLY)
        try:
            return sorted(os.listdir(directory))
        finally:
            os.close(directory)

    def open(self, path: str) -> BinaryIO:
        """A regular file, opened for reading.

        :raises OSError: where there is none, or it may not be read.
        """
        with self.parent(path) as (directory, name):
            return physical.open_regular(name, directory)

    @contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the directory that holds a path, and the name in there; ``.`` for the root.

        :raises OSError: ENOENT, or ENOTDIR where a parent is a symlink or a file.
        """
        holder, _, name = os.path.normpath("/" + path).rpartition("/")
        directory = descend(self._root, holder)
        try:
            yield directory, name or "."
        finally:
            os.close(directory)

    def close(self) -> None:
        """Give the descriptor back; asking afterwards is EBADF."""
        self._close()

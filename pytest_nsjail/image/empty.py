"""A file system with nothing in it: what a fresh tmpfs is."""

from __future__ import annotations

import errno
import os
from typing import BinaryIO

from pytest_nsjail.fileview import Kind, Stat


class EmptyView:
    """The FileView of a root directory without a single name in it."""

    def lstat(self, path: str) -> Stat | None:
        """The root, or None."""
        return Stat(Kind.DIRECTORY, 0o1777, 0, 0, (0, 0)) if path == "/" else None

    def readlink(self, path: str) -> str:
        """Nothing to read.

        :raises OSError: always.
        """
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def listdir(self, path: str) -> list[str]:
        """No names.

        :raises OSError: for anything but the root.
        """
        if path != "/":
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return []

    def open(self, path: str) -> BinaryIO:
        """Nothing to open.

        :raises OSError: always.
        """
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)

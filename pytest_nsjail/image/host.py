"""The host's own file system, read-only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

from pytest_nsjail.fileview import Stat
from pytest_nsjail.image import physical


@dataclass(frozen=True)
class HostView:
    """The FileView of this host. Any two are equal: there is one host.

    The kernel follows symlinks in the parents of a path; whoever asks has walked there and gives physical paths.
    """

    def lstat(self, path: str) -> Stat | None:
        """The path's metadata, or None where nothing is (or a parent is no directory).

        :raises OSError: where the kernel does not say whether anything is there: EACCES, ENAMETOOLONG, EIO.
        """
        return physical.lstat(path)

    def readlink(self, path: str) -> str:
        """A symlink's target, verbatim.

        :raises OSError: where there is no symlink.
        """
        return os.readlink(path)

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, sorted.

        :raises OSError: where there is no directory, or it may not be read.
        """
        return sorted(os.listdir(path))

    def open(self, path: str) -> BinaryIO:
        """A regular file, opened for reading; never a symlink, a device or a FIFO.

        :raises OSError: where there is none, or it may not be read.
        """
        return physical.open_regular(path)

"""What the resolver may ask of a file system: a read-only view, of the host or of a tree in memory."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Protocol


class Kind(Enum):
    """What a path is, without following a symlink."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    DEVICE = "device"
    SOCKET = "socket"
    FIFO = "fifo"


@dataclass(frozen=True)
class Stat:
    """One path's metadata, without following a symlink.

    :param mode: the permission bits, 0 to 0o7777.
    :param size: in bytes.
    :param mtime_ns: nanoseconds since the epoch.
    :param identity: (device, inode): equal for two names of one file.
    :param ctime_ns: nanoseconds since the epoch; with the identity, the size and the mtime it tells a changed file.
    """

    kind: Kind
    mode: int
    size: int
    mtime_ns: int
    identity: tuple[int, int]
    ctime_ns: int = 0


class FileView(Protocol):
    """A read-only file system. Paths are absolute and physical: no view follows a symlink, not even in a parent.

    Whoever wants symlinks followed walks them, see :mod:`pytest_nsjail.resolve.walk`.
    """

    def lstat(self, path: str) -> Stat | None:
        """The path's metadata, or None where nothing is (or a parent is no directory)."""

    def readlink(self, path: str) -> str:
        """A symlink's target, verbatim.

        :raises OSError: where there is no symlink.
        """

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, sorted.

        :raises OSError: where there is no directory, or it may not be read.
        """

    def open(self, path: str) -> BinaryIO:
        """A regular file, opened for reading.

        :raises OSError: where there is none, or it may not be read.
        """

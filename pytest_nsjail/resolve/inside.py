"""A closure, seen as the file system it will be: so the loaders' rules are asked once more, of the image itself."""

from __future__ import annotations

import errno
import io
from collections.abc import Mapping
from typing import BinaryIO

from pytest_nsjail.fileview import Kind, Stat
from pytest_nsjail.resolve.entry import Content, Entry


class ClosureView:
    """A :class:`~pytest_nsjail.fileview.FileView` of entries; the root is there without one."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries

    def lstat(self, path: str) -> Stat | None:
        """The entry's metadata; a file that comes from a view keeps the inode it has there."""
        entry = self._entries.get(path)
        if entry is None:
            return Stat(Kind.DIRECTORY, 0o755, 0, 0, (-1, 0)) if path == "/" else None
        if isinstance(entry.content, Content):
            stat = entry.content.view.lstat(entry.content.path)
            return stat and Stat(Kind.FILE, entry.mode, stat.size, stat.mtime_ns, stat.identity, stat.ctime_ns)
        # No device is -1: what a declaration itself holds is told apart by what it is.
        literal = entry.content or b""
        return Stat(entry.kind, entry.mode, len(literal), entry.mtime_ns, (-1, hash((path, entry.kind, literal))))

    def readlink(self, path: str) -> str:
        """The target of a SYMLINK entry."""
        entry = self._entries.get(path)
        if entry is None or entry.kind is not Kind.SYMLINK:
            raise OSError(errno.EINVAL, "not a symlink of the closure", path)
        return entry.target

    def listdir(self, path: str) -> list[str]:
        """The names below a DIRECTORY entry."""
        entry = self._entries.get(path)
        if path != "/" and (entry is None or entry.kind is not Kind.DIRECTORY):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory of the closure", path)
        below = path.rstrip("/") + "/"
        return sorted(name[len(below) :] for name in self._entries if name.startswith(below) and "/" not in name[len(below) :])

    def open(self, path: str) -> BinaryIO:
        """A FILE entry's bytes."""
        entry = self._entries.get(path)
        if entry is None or entry.kind is not Kind.FILE:
            raise FileNotFoundError(errno.ENOENT, "not a file of the closure", path)
        if isinstance(entry.content, Content):
            return entry.content.view.open(entry.content.path)
        return io.BytesIO(entry.content or b"")

"""What was once read of a file, kept for as long as the file is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from pytest_nsjail.fileview import Stat

T = TypeVar("T")


class Memo(Generic[T]):
    """Results of reading files, by what tells a changed file: inode, size, mtime and ctime.

    A reader's failure is kept as well: a file that is no ELF is asked about as often as one that is.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[tuple[int, int], int, int, int], T | ValueError] = {}

    def get(self, stat: Stat, read: Callable[[], T]) -> T:
        """What ``read`` gives for the file of this ``stat``.

        :raises ValueError: as ``read`` does.
        """
        key = (stat.identity, stat.size, stat.mtime_ns, stat.ctime_ns)
        if key not in self._kept:
            try:
                self._kept[key] = read()
            except ValueError as error:
                self._kept[key] = error
        found = self._kept[key]
        if isinstance(found, ValueError):
            raise found.with_traceback(None)
        return found

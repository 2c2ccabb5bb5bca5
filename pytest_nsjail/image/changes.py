"""What a program wrote: the paths, and what is in them, read from the throwaway layer it ran on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from pytest_nsjail.errors import NsjailError
from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.image.rooted import RootedView


class NotWritten(NsjailError, LookupError):
    """A path that has no content among the changes: it names the path and what became of it."""


class Changes:
    """What a program added, modified and deleted; true if that is anything. Iterating gives every changed path, sorted.

    :param upper: a descriptor of the upper directory of the program's overlay, owned by this object from now on; None where the
        program could write nothing.
    :param lower: what the overlay lies upon: the image.
    :param records: each path, absolute, with ``added``, ``modified`` or ``deleted``, as :func:`pytest_nsjail.kernel.layer_scan.scan` gives them.
    """

    def __init__(self, upper: int | None, lower: FileView, records: Sequence[tuple[str, str]]) -> None:
        self._view = None
        if upper is not None:
            try:
                self._view = RootedView(upper)
            finally:
                os.close(upper)
        self._lower = lower
        self._what = dict(sorted(records))

    @property
    def added(self) -> tuple[str, ...]:
        """The paths that the image does not have: files, symlinks, directories."""
        return self._paths("added")

    @property
    def modified(self) -> tuple[str, ...]:
        """The files that were opened for writing, or replaced. Not the directories around them."""
        return self._paths("modified")

    @property
    def deleted(self) -> tuple[str, ...]:
        """The paths of the image that are gone; a directory with all that was in it."""
        return self._paths("deleted")

    @property
    def layer(self) -> RootedView | None:
        """The throwaway layer itself, as the overlay keeps it; None where nothing was written, or after :meth:`close`."""
        return self._view

    def largest_file(self) -> int:
        """The size of the largest file that was written, in bytes; 0 where none was."""
        found = [self._view.lstat(path) for path, what in self._what.items() if what != "deleted"] if self._view else []
        return max((status.size for status in found if status and status.kind is Kind.FILE), default=0)

    def read_bytes(self, path: str) -> bytes:
        """What the program left in a file.

        :param path: absolute, as the program saw it.
        :raises NotWritten: for a path that was deleted, that is no file, or that the program did not write to.
        :raises NsjailError: where the layer is closed, or the file may not be read.
        """
        name = os.path.normpath(path) if path.startswith("/") else path
        what = self._what.get(name)
        if what is None:
            raise NotWritten(f"{path} was not written: {self._instead(name)}")
        if what == "deleted":
            raise NotWritten(f"{path} was deleted.")
        if self._view is None:
            raise NsjailError(f"{path} was {what}, but these changes are closed. Read it before close().")
        try:
            status = self._view.lstat(name)
            if status and status.kind is Kind.SYMLINK:
                raise NotWritten(f"{path} was {what} as a symlink to {self._view.readlink(name)}. Read that.")
            if status and status.kind is not Kind.FILE:
                raise NotWritten(f"{path} was {what} as a {status.kind.value}, which holds no bytes.")
            with self._view.open(name) as file:
                return file.read()
        except OSError as error:
            raise NsjailError(f"{path} was {what}, but it cannot be read: {error.strerror}, errno {error.errno}.") from error

    def read_text(self, path: str, encoding: str = "utf-8") -> str:
        """What the program left in a file, decoded.

        :raises UnicodeDecodeError: for bytes that are no text in this encoding; for the rest see :meth:`read_bytes`.
        """
        return self.read_bytes(path).decode(encoding)

    def close(self) -> None:
        """Give the layer back; its memory is free then. The paths stay known."""
        if self._view is not None:
            self._view.close()
            self._view = None

    def _paths(self, wanted: str) -> tuple[str, ...]:
        return tuple(path for path, what in self._what.items() if what == wanted)

    def _instead(self, path: str) -> str:
        if not path.startswith("/"):
            return "the path is not absolute."
        if self._lower.lstat(path):
            return "it is as it was in the image."
        if not self._what:
            return "the program changed nothing."
        near = [other for other in self._what if os.path.basename(other) == os.path.basename(path)]
        return f"did you mean {near[0]}?" if near else f"the program changed {', '.join(list(self._what)[:5])}{', ...' if len(self._what) > 5 else '.'}"

    def __bool__(self) -> bool:
        return bool(self._what)

    def __iter__(self) -> Iterator[str]:
        return iter(self._what)

    def __len__(self) -> int:
        return len(self._what)

    def __repr__(self) -> str:
        told = [f"{what}={list(paths)}" for what in ("added", "modified", "deleted") if (paths := self._paths(what))]
        return f"<Changes {' '.join(told) or 'none'}>"

"""Files that outlive the jail they were written in."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Ending


def below(directory: str) -> Callable[[str], bool]:
    """Whether a path is in this directory, or is it."""
    inside = os.path.join(os.path.abspath(directory), "")
    return lambda path: f"{path}/".startswith(inside)


def carry_back(ending: Ending, wanted: Callable[[str], bool], place: Callable[[str], str] = str) -> Collection[str]:
    """Do to the project what an isolated test did to its copy of it.

    :param wanted: which files, by their absolute paths; the others are gone with the jail.
    :param place: where one belongs; it says what it is told where it is left out.
    :return: which these were, directories as well.
    :raises OSError: where the project takes them not.
    """
    for path in (*ending.added, *ending.modified):
        if wanted(path):
            try:
                content = ending.read_bytes(path)
            except LookupError:
                continue  # a directory comes with what is in it, and a link is not followed
            _write(place(path), content)
    for path in ending.deleted:
        if wanted(path) and _plain(path):
            _remove(path)
    return [path for path in (*ending.added, *ending.modified, *ending.deleted) if wanted(path)]


def _plain(path: str) -> bool:
    """Whether no link is on the way: the test may have put a directory of its own in a link's place."""
    directory = os.path.dirname(path)
    return os.path.realpath(directory) == directory


def _write(path: str, content: bytes) -> None:
    if not _plain(path) or os.path.isdir(path):
        return
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    # Others may read it at this moment: they see the old file or the new one.
    fd, name = tempfile.mkstemp(dir=directory, prefix=".nsjail-")
    try:
        with open(fd, "wb") as file:
            file.write(content)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)

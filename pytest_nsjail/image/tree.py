"""Directories of the store: made for nobody else, and removed whatever their modes are."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from pytest_nsjail.errors import SetupError

_ELSEWHERE = "name another directory with --nsjail-store or PYTEST_NSJAIL_STORE"


def make(path: str) -> None:
    """A new directory that only its owner can enter, whatever the umask is.

    :raises OSError: EEXIST, ENOSPC, ...
    """
    os.mkdir(path, 0o700)
    os.chmod(path, 0o700)


def own(path: str) -> None:
    """Make a directory, or see that an existing one is this user's alone to change.

    :raises SetupError: where somebody else could put something into it.
    :raises OSError: where it cannot be made.
    """
    try:
        make(path)
    except FileExistsError:
        pass
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise SetupError(f"use the store's {path}: it is no directory", None, f"Remove it, or {_ELSEWHERE}.")
    if status.st_uid != os.geteuid():
        raise SetupError(f"use the store's {path}: it belongs to uid {status.st_uid}, and this process is uid {os.geteuid()}", None, f"Please {_ELSEWHERE}.")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise SetupError(f"use the store's {path}: every user may write to it", None, f"Run chmod o-w {path}, or {_ELSEWHERE}.")


def is_real(path: str) -> bool:
    """Whether this is a directory, and not a symlink to one."""
    try:
        return stat.S_ISDIR(os.lstat(path.rstrip("/")).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def write(path: str, text: str) -> None:
    """A new file that only its owner can read.

    :raises OSError: EEXIST, ENOSPC, ...
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


def touch(path: str) -> None:
    """Set a file's times to now; make it where it is not. On a read-only file system nothing is pruned, and nothing is to note.

    :raises OSError: where it can be neither.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.EROFS:
            return
        raise
    try:
        os.utime(file)
    finally:
        os.close(file)


def remove(path: str) -> None:
    """Remove a file, a symlink or a whole directory; nothing where another process is doing the same.

    :raises OSError: where it cannot be removed.
    """
    if not is_real(path):
        _gone(os.unlink, path)
        return
    # First open every directory, from the top: an image may hold some that are closed even to their owner.
    for directory, names, _ in os.walk(path):
        for name in names:
            if is_real(f"{directory}/{name}"):
                _gone(_open_up, f"{directory}/{name}")
    for directory, names, files in os.walk(path, topdown=False):
        for name in files + names:
            _gone(os.rmdir if is_real(f"{directory}/{name}") else os.unlink, f"{directory}/{name}")
    _gone(os.rmdir, path)


def _open_up(path: str) -> None:
    os.chmod(path, 0o700)


def _gone(call: Callable[[str], None], path: str) -> None:
    try:
        call(path)
    except FileNotFoundError:
        pass

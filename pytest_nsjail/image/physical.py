"""Real files, as every view of them gives them: their metadata, and their bytes without waiting, following or waking a device."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from pytest_nsjail.fileview import Kind, Stat

_KINDS = {
    stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK, stat.S_IFCHR: Kind.DEVICE,
    stat.S_IFBLK: Kind.DEVICE, stat.S_IFSOCK: Kind.SOCKET, stat.S_IFIFO: Kind.FIFO,
}


def described(status: os.stat_result) -> Stat:
    """What stat(2) said, in this package's words."""
    return Stat(
        _KINDS[stat.S_IFMT(status.st_mode)], stat.S_IMODE(status.st_mode), status.st_size, status.st_mtime_ns,
        (status.st_dev, status.st_ino), status.st_ctime_ns,
    )


def lstat(name: str, directory: int | None = None) -> Stat | None:
    """One path's metadata, or None where nothing is.

    :param directory: a descriptor that a relative name starts from.
    :raises OSError: where the kernel does not say whether anything is there (EACCES, ENAMETOOLONG).
    """
    try:
        return described(os.stat(name, dir_fd=directory, follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_regular(name: str, directory: int | None = None) -> BinaryIO:
    """A regular file, opened for reading.

    :raises OSError: ELOOP for a symlink, EISDIR for a directory, EINVAL for a device, a socket or a FIFO.
    """
    # Asked before it is opened, as opening a device or a FIFO can have an effect; and after, as it may be another file by then.
    _regular(name, os.stat(name, dir_fd=directory, follow_symlinks=False))
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        _regular(name, os.fstat(file))
        return os.fdopen(file, "rb")
    except BaseException:
        os.close(file)
        raise


def _regular(name: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", name)

"""One file's bytes into a new file: shared with the source where the file system can, else copied; hashed either way."""

from __future__ import annotations

import fcntl
import hashlib
import os
from io import UnsupportedOperation
from typing import BinaryIO

from pytest_nsjail.image.digests import CHUNK

# _IOW(0x94, 9, int), ioctl_ficlone(2): btrfs, XFS, bcachefs, ZFS. The two files then share their blocks until one is written.
_FICLONE = 0x40049409
_HOLE = bytes(CHUNK)


def copy(source: BinaryIO, target: int) -> str:
    """Fill an empty file. Whole chunks of zeros become holes.

    The hash is that of the bytes in the target, so that a source that changes meanwhile is found out. As they pass through this
    process to be hashed, copy_file_range(2) and sendfile(2) would save nothing.

    :param target: a descriptor, opened for reading and writing.
    :return: the sha256 of what was written, in hexadecimal.
    :raises OSError: where the source cannot be read or the target cannot be written.
    """
    if _clone(source, target):
        with os.fdopen(os.dup(target), "rb") as cloned:
            return _read(cloned, None)
    return _read(source, target)


def _clone(source: BinaryIO, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source.fileno())
    except (OSError, UnsupportedOperation):  # another file system, one without reflinks, or a source in memory
        return False
    return True


def _read(source: BinaryIO, target: int | None) -> str:
    hashing, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        hashing.update(chunk)
        size += len(chunk)
        if target is None:
            continue
        if chunk == _HOLE:
            os.lseek(target, len(chunk), os.SEEK_CUR)
        else:
            _write(target, chunk)
    if target is not None:
        os.ftruncate(target, size)  # a hole at the end
    return hashing.hexdigest()


def _write(target: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(target, rest):]

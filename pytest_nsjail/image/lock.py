"""Locks between processes, flock(2): the kernel lets go of them when the holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager


class Lock:
    """A lock that is held until :meth:`close`, or until nobody has this object any more.

    A process forked from the holder holds it too. So letting go closes a descriptor and does not unlock: LOCK_UN in one of them would
    unlock for both.

    :param path: the file that stands for what is locked.
    :param file: its descriptor, with the lock on it.
    """

    def __init__(self, path: str, file: int) -> None:
        self.path = path
        self._close = weakref.finalize(self, os.close, file)

    def close(self) -> None:
        """Let go."""
        self._close()


def shared(path: str) -> Lock | None:
    """A lock that others may share, on a file that exists; None where it does not. Waits for an exclusive one.

    :raises OSError: where the file system has no locks (ENOLCK, EOPNOTSUPP).
    """
    return _take(path, os.O_RDONLY, fcntl.LOCK_SH)


def alone(path: str) -> Lock | None:
    """An exclusive lock on a file that exists, without waiting; None where it does not, or where anybody has a lock.

    :raises OSError: where the file system has no locks.
    """
    try:
        return _take(path, os.O_RDWR, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


@contextmanager
def building(path: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file that exists only while somebody does. Says whether it could be had, without ``wait``.

    :raises OSError: where the file cannot be made, or the file system has no locks.
    """
    lock = None
    try:
        while lock is None:
            lock = _take(path, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        # Whoever waits for this file finds that it is gone, and makes the next.
        os.unlink(path)
        lock.close()


def _take(path: str, flags: int, operation: int) -> Lock | None:
    """None where the file is not there, or was another by the time it was locked."""
    try:
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, operation)
        same = os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        same = False
    except BaseException:
        os.close(file)
        raise
    if not same:
        os.close(file)
        return None
    return Lock(path, file)

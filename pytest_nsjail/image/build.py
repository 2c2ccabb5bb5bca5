"""A closure turned into a directory. Nothing but what the closure says decides how it looks: not the umask, not who builds."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO

from pytest_nsjail.errors import SetupError
from pytest_nsjail.fileview import Kind
from pytest_nsjail.image.copy import copy
from pytest_nsjail.image.manifest import Manifest, ManifestEntry
from pytest_nsjail.resolve.entry import Closure, Content, Entry


def build(closure: Closure, manifest: Manifest, root: str) -> None:
    """Make the root file system of a closure.

    No path leads through a symlink: the manifest has checked that every parent is a directory of the image, and the root is new.

    :param manifest: this closure's.
    :param root: where; nothing may be there yet, and nobody else may write to its parent.
    :raises SetupError: names the path and the file whose copy failed, or that changed since the manifest was made.
    """
    directories = [closure.entries[entry.path] for entry in manifest.entries if entry.kind is Kind.DIRECTORY and entry.path != "/"]
    with _step(f"make {root}", root):
        _directory(root)
    for directory in directories:
        with _step(f"make {directory.path} in the image", root):
            _directory(root + directory.path)
    for described in manifest.entries:
        entry = closure.entries[described.path]
        if entry.kind is Kind.FILE:
            source = entry.content.path if isinstance(entry.content, Content) else "its text"
            with _step(f"copy {source} to {entry.path} in the image", root):
                _file(entry, described, root)
        elif entry.kind is Kind.SYMLINK:
            with _step(f"make the symlink {entry.path} in the image", root):
                _symlink(entry, root + entry.path)
    # Last and from the leaves up: a directory that is read-only, or closed even to its owner, has been filled by then.
    for directory in reversed(directories):
        with _step(f"set mode and time of {directory.path} in the image", root):
            _finish(root + directory.path, directory.mode, directory.mtime_ns)
    top = closure.entries.get("/")
    with _step("set mode and time of the image's root", root):
        _finish(root, top.mode if top else 0o755, top.mtime_ns if top else 0)


def refusal(step: str, error: OSError, directory: str) -> SetupError:
    """The error for a call that failed below a directory of the store, with the way out of it."""
    elsewhere = "name another directory with --nsjail-store or PYTEST_NSJAIL_STORE"
    advice = {
        errno.ENOSPC: f"Free some space or inodes there, or {elsewhere}.",
        errno.EDQUOT: f"Your quota is used up there: free some space, or {elsewhere}.",
        errno.EACCES: f"Make it yours and writable, or {elsewhere}.",
        errno.EPERM: f"Make it yours and writable, or {elsewhere}.",
        errno.EROFS: f"That file system is read-only: {elsewhere}.",
        errno.ENOLCK: f"That file system has no locks: {elsewhere}.",
        errno.EOPNOTSUPP: f"That file system has no locks: {elsewhere}.",
        errno.ENAMETOOLONG: f"The path is too long below {directory}: {elsewhere}, a shorter one.",
    }
    return SetupError(f"{step}, below {directory}", error.errno, advice.get(error.errno or 0, f"If {directory} is the trouble, {elsewhere}."))


@contextmanager
def _step(step: str, root: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refusal(step, error, root) from error


def _directory(path: str) -> None:
    os.mkdir(path, 0o700)
    os.chmod(path, 0o700)  # whatever the umask took away


def _file(entry: Entry, described: ManifestEntry, root: str) -> None:
    if described.link:
        os.link(root + described.link, root + entry.path, follow_symlinks=False)
        return
    target = os.open(root + entry.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with _source(entry) as source:
            same = copy(source, target) == described.sha256
        if not same:
            changed = entry.content.path if isinstance(entry.content, Content) else entry.path
            raise SetupError(f"{changed} changed while it was copied to {entry.path} in the image", None, "Run again when nothing writes to it any more.")
        os.fchmod(target, entry.mode)
        os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))
    finally:
        os.close(target)


def _source(entry: Entry) -> BinaryIO:
    if not isinstance(entry.content, Content):
        return BytesIO(entry.content or b"")
    try:
        return entry.content.view.open(entry.content.path)
    except OSError as error:
        wanted = ", ".join(entry.wanted_by) or "nobody"
        raise SetupError(
            f"read {entry.content.path}, wanted by {wanted}", error.errno, "Leave it out of the image, or run as a user who may read it."
        ) from error


def _symlink(entry: Entry, path: str) -> None:
    os.symlink(entry.target, path)
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)


def _finish(path: str, mode: int, mtime_ns: int) -> None:
    os.chmod(path, mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))

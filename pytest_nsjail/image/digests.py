"""What files hold, as sha256; the host's are hashed once and remembered in the store.

The memory is a file of lines, appended by any number of processes at once: one write(2) with O_APPEND each, so that lines never mix.
A line that was torn (a full disk, a crash) matches nothing and is passed over. It is only a cache: losing it costs time.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import dataclass
from functools import cached_property

from pytest_nsjail.fileview import Stat
from pytest_nsjail.image.host import HostView
from pytest_nsjail.resolve.entry import Content

CHUNK = 1 << 18
_SHA256 = re.compile(r"[0-9a-f]{64}")
# A file that changed this lately can change again within the same tick of the kernel's clock, and its ctime would not tell.
_SETTLED_NS = 2_000_000_000
# About 16,000 files. Beyond it the older half is forgotten.
_LARGEST = 2 << 20


@dataclass(frozen=True)
class Digest:
    """A content.

    :param sha256: in hexadecimal.
    :param size: in bytes.
    """

    sha256: str
    size: int


class Digests:
    """Hashes contents, remembering those of host files by (device, inode, size, mtime, ctime).

    :param path: where they are remembered; None: nowhere.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._learnt: dict[str, str] = {}

    @cached_property
    def _known(self) -> dict[str, str]:
        # Not before a file is asked for: it may be megabytes, which every fork of pytest's would have.
        return _read(self._path) if self._path else {}

    def of(self, content: Content | bytes) -> Digest:
        """The digest of literal bytes, or of a file of a view.

        :raises OSError: where the file cannot be read.
        """
        if isinstance(content, bytes):
            return Digest(hashlib.sha256(content).hexdigest(), len(content))
        if not isinstance(content.view, HostView):
            return _hashed(content)
        before = content.view.lstat(content.path)
        known = self._known.get(_key(before)) if before else None
        if before and known and _SHA256.fullmatch(known):
            return Digest(known, before.size)
        # ctime and not mtime: every change of content sets it to now, and no program can set it back.
        settled = before is not None and time.time_ns() - before.ctime_ns > _SETTLED_NS
        digest = _hashed(content)
        if before and settled and content.view.lstat(content.path) == before:
            self._known[_key(before)] = self._learnt[_key(before)] = digest.sha256
        return digest

    def save(self) -> None:
        """Write down what was learnt. A store that cannot take it (full, read-only) learns nothing, and nothing else happens."""
        learnt, self._learnt = self._learnt, {}
        if not self._path or not learnt:
            return
        # The newline in front ends a torn line of somebody else.
        lines = "\n" + "".join(f"{key} {sha256}\n" for key, sha256 in learnt.items())
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, lines.encode())
                large = os.fstat(file).st_size > _LARGEST
            finally:
                os.close(file)
            if large:
                _compact(self._path)
        except OSError:
            pass


def _key(status: Stat) -> str:
    return f"{status.identity[0]} {status.identity[1]} {status.size} {status.mtime_ns} {status.ctime_ns}"


def _hashed(content: Content) -> Digest:
    hashing, size = hashlib.sha256(), 0
    with content.view.open(content.path) as file:
        while chunk := file.read(CHUNK):
            hashing.update(chunk)
            size += len(chunk)
    return Digest(hashing.hexdigest(), size)


def _read(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return {key: sha256 for key, _, sha256 in (line.rstrip("\n").rpartition(" ") for line in file) if key}
    except OSError:
        return {}


def _compact(path: str) -> None:
    """Keep the newer half. What others append meanwhile is lost, and hashed again."""
    known = list(_read(path).items())
    kept = [f"{key} {sha256}\n" for key, sha256 in known[len(known) // 2:] if _SHA256.fullmatch(sha256)]
    new = f"{path}.{os.getpid()}.{time.monotonic_ns()}"
    try:
        with open(new, "x", encoding="ascii", errors="replace") as file:
            file.writelines(kept)
        os.chmod(new, 0o600)
        os.rename(new, path)
    except BaseException:
        try:
            os.unlink(new)
        except FileNotFoundError:
            pass
        raise

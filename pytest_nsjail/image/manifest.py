"""What an image is: every path with its content's hash, and who wanted it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from pytest_nsjail.errors import NsjailError, ResolveError, SetupError
from pytest_nsjail.fileview import Kind
from pytest_nsjail.image.digests import Digests
from pytest_nsjail.image.host import HostView
from pytest_nsjail.resolve.entry import Closure, Content, Entry

# Part of every digest: with another format, or another way to build, every root is another root.
_FORMAT = "pytest-nsjail image 1"


@dataclass(frozen=True)
class ManifestEntry:
    """One path of an image.

    :param path: absolute and normal, inside the image.
    :param kind: FILE, DIRECTORY or SYMLINK.
    :param mode: the permission bits; a symlink has none that count.
    :param wanted_by: who wants it, most specific first.
    :param size: a file's, in bytes; 0 for everything else.
    :param sha256: of a file's bytes, in hexadecimal; empty for everything else.
    :param target: a symlink's, verbatim.
    :param mtime: the modification time, in whole seconds since the epoch.
    :param link: the path of the file that this is another name of, as it is on the host; empty for a file of its own.
    """

    path: str
    kind: Kind
    mode: int
    wanted_by: tuple[str, ...]
    size: int = 0
    sha256: str = ""
    target: str = ""
    mtime: int = 0
    link: str = ""


@dataclass(frozen=True)
class Manifest:
    """An image, described: two with the same digest are the same root file system, whoever wanted their paths.

    :param entries: sorted by path.
    """

    entries: tuple[ManifestEntry, ...]

    @classmethod
    def of(cls, closure: Closure, digests: Digests | None = None) -> Manifest:
        """The manifest of a closure: reads every file whose digest is not remembered.

        :raises ResolveError: for a path that is not normal, or whose parent is no directory of the image.
        :raises SetupError: for a file that cannot be read.
        """
        digests = digests or Digests()
        names: dict[object, str] = {}
        made = []
        for entry in sorted(closure, key=lambda entry: entry.path):
            _check(entry, closure.entries)
            made.append(_described(entry, digests, names))
        digests.save()
        return cls(tuple(made))

    @cached_property
    def digest(self) -> str:
        """The sha256, in hexadecimal, of all that makes a difference inside a jail. Who wanted a path makes none."""
        lines = [[e.path, e.kind.value, e.mode, e.sha256, e.target, e.mtime, e.link] for e in self.entries]
        return hashlib.sha256(json.dumps([_FORMAT, lines], separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def size(self) -> int:
        """The sum of all files' sizes, in bytes; a file with two names counts twice."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def files(self) -> Mapping[str, ManifestEntry]:
        """Every path that is no directory."""
        return MappingProxyType({entry.path: entry for entry in self.entries if entry.kind is not Kind.DIRECTORY})

    def tree(self) -> str:
        """A table for people: the files, largest first, and a total."""
        rows = [("SIZE", "PATH", "KIND", "WANTED BY")]
        for entry in sorted(self.files.values(), key=lambda entry: (-entry.size, entry.path)):
            named = f"{entry.path} -> {entry.target}" if entry.kind is Kind.SYMLINK else entry.path
            # A name that is no UTF-8 is shown by its bytes' numbers: a terminal would refuse it.
            shown = named.encode("utf-8", "backslashreplace").decode()
            rows.append((_human(entry.size) if entry.kind is Kind.FILE else "-", shown, entry.kind.value, _brief(entry.wanted_by)))
        size, path, kind = (max(len(row[column]) for row in rows) for column in range(3))
        lines = [f"{row[0]:>{size}}  {row[1]:<{path}}  {row[2]:<{kind}}  {row[3]}".rstrip() for row in rows]
        counts = ", ".join(_counted(sum(entry.kind is kind for entry in self.entries), kind) for kind in (Kind.FILE, Kind.SYMLINK, Kind.DIRECTORY))
        return "\n".join([*lines, f"{_human(self.size)} in {counts}"])

    def to_json(self) -> str:
        """This manifest as text; :meth:`from_json` takes it."""
        entries = ",\n".join(json.dumps({**vars(entry), "kind": entry.kind.value}) for entry in self.entries)
        return f'{{"format": {json.dumps(_FORMAT)}, "digest": "{self.digest}", "entries": [\n{entries}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """A manifest from what :meth:`to_json` gave.

        :raises NsjailError: for anything else.
        """
        try:
            read = json.loads(text)
            manifest = cls(tuple(_entry(**entry) for entry in read["entries"]))
            intact = read["format"] == _FORMAT and read["digest"] == manifest.digest
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise NsjailError(f"this is no image manifest ({error!r}). Build the image again.") from error
        if not intact:
            raise NsjailError("this image manifest was changed after it was written, or another version wrote it. Build the image again.")
        return manifest


def _check(entry: Entry, entries: Mapping[str, Entry]) -> None:
    """Hold a path against what the builder relies on: that nothing it writes leads through a symlink or out of the root."""
    if entry.kind not in (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK):
        raise ResolveError(f"{entry.path} is a {entry.kind.value}, wanted by {_wanted(entry)}", "An image holds files, directories and symlinks.")
    if not entry.path.startswith("/") or os.path.normpath(entry.path) != entry.path or entry.path.startswith("//") or "\0" in entry.path:
        raise ResolveError(f"{entry.path!r}, wanted by {_wanted(entry)}, is not absolute and normal", "Write it from the image's root, without '.' and '..'.")
    parent = os.path.dirname(entry.path)
    above = entries.get(parent)
    if parent != "/" and (above is None or above.kind is not Kind.DIRECTORY):
        found = f"a {above.kind.value} wanted by {_wanted(above)}" if above else "not in the image"
        raise ResolveError(f"{entry.path}, wanted by {_wanted(entry)}, needs the directory {parent}, which is {found}", "Declare one of the two elsewhere.")


def _described(entry: Entry, digests: Digests, names: dict[object, str]) -> ManifestEntry:
    mtime = entry.mtime_ns // 10**9
    if entry.kind is not Kind.FILE:
        mode = 0o777 if entry.kind is Kind.SYMLINK else entry.mode
        return ManifestEntry(entry.path, entry.kind, mode, entry.wanted_by, target=entry.target, mtime=mtime)
    content = entry.content if entry.content is not None else b""
    link = ""
    try:
        if isinstance(content, Content):
            status = content.view.lstat(content.path)
            if status is None:
                raise FileNotFoundError(2, os.strerror(2), content.path)
            # A loader takes two names of one inode for one library. Only names that agree in all that an inode holds can stay one.
            view = "host" if isinstance(content.view, HostView) else id(content.view)
            identity = (view, status.identity, entry.mode, entry.mtime_ns)
            first = names.setdefault(identity, entry.path)
            link = first if first != entry.path else ""
        digest = digests.of(content)
    except OSError as error:
        source = content.path if isinstance(content, Content) else entry.path
        raise SetupError(
            f"read {source}, wanted by {_wanted(entry)}", error.errno, "Leave it out of the image, or run as a user who may read it."
        ) from error
    return ManifestEntry(entry.path, entry.kind, entry.mode, entry.wanted_by, digest.size, digest.sha256, "", mtime, link)


def _entry(kind: str, wanted_by: Iterable[str], **rest: Any) -> ManifestEntry:
    return ManifestEntry(kind=Kind(kind), wanted_by=tuple(wanted_by), **rest)


def _brief(wanted_by: tuple[str, ...]) -> str:
    """The first reason with the next one up; the others are in :attr:`ManifestEntry.wanted_by`."""
    return ", ".join(wanted_by[:2]) + (f", and {len(wanted_by) - 2} more" if len(wanted_by) > 2 else "")


def _wanted(entry: Entry) -> str:
    return ", ".join(entry.wanted_by) or "nobody"


def _counted(number: int, kind: Kind) -> str:
    plural = {Kind.FILE: "files", Kind.SYMLINK: "symlinks", Kind.DIRECTORY: "directories"}[kind]
    return f"{number} {kind.value if number == 1 else plural}"


def _human(size: int) -> str:
    number, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{size} B" if unit == "B" else f"{number:.1f} {unit}"

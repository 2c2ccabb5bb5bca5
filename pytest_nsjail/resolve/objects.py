"""The objects of one process, as a loader brings them together: breadth-first, each name once."""

from __future__ import annotations

import errno
import posixpath
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from pytest_nsjail.fileview import Kind
from pytest_nsjail.resolve import elf
from pytest_nsjail.resolve.elf import Binary, Version, Want
from pytest_nsjail.resolve.walk import Walker


@dataclass(frozen=True)
class Spot:
    """One pathname twice: where the view has it, and where the image will. They differ only below a moved program's ``$ORIGIN``."""

    view: str
    image: str

    @classmethod
    def both(cls, path: str) -> Spot:
        """The same place on both sides."""
        return cls(path, path)

    def map(self, other: str) -> Spot:
        """The same name below both."""
        return Spot(posixpath.join(self.view, other), posixpath.join(self.image, other))

    @property
    def parent(self) -> Spot:
        return Spot(posixpath.dirname(self.view), posixpath.dirname(self.image))


@dataclass(frozen=True, eq=False)
class Object:
    """One object of a process.

    :param spot: the pathname by which it was found; symlinks are in it still, and for a library ``$ORIGIN`` keeps them.
    :param name: how it was asked for.
    :param how: how it was found, as a phrase.
    :param loader: the object that asked first; None for the program.
    """

    spot: Spot
    binary: Binary
    name: str = ""
    how: str = ""
    loader: Object | None = None


@dataclass(frozen=True)
class Candidate:
    """One pathname that a loader tries, and how it came upon it."""

    spot: Spot
    how: str


@dataclass(frozen=True)
class Found:
    """A pathname that was looked up and found. Every one belongs to the closure, even when two are one file."""

    want: Want
    by: Object
    spot: Spot
    how: str


@dataclass(frozen=True)
class Absent:
    """A name that was looked up in vain.

    :param searched: the directories, in order.
    :param fatal: what is wrong with the file that was found, where that ends the search.
    """

    want: Want
    by: Object
    searched: tuple[str, ...]
    fatal: str = ""

    @property
    def plain(self) -> tuple[str, ...]:
        """The directories searched that are for every CPU."""
        return tuple(directory for directory in self.searched if "/glibc-hwcaps/" not in directory)


@dataclass(frozen=True)
class Clash:
    """A symbol version that the library found does not define."""

    version: Version
    by: Object
    provider: Object


@dataclass
class Process:
    """What a loader brings together for one program."""

    objects: list[Object] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    clashes: list[Clash] = field(default_factory=list)
    files: list[str] = field(default_factory=list)  # what the loader itself reads, like musl's path file


class Rules(Protocol):
    """One loader's own way."""

    def search(self, want: Want, by: Object) -> Iterable[Candidate]:
        """The pathnames tried for a name, in order."""

    def aliases(self, item: Object) -> Iterable[str]:
        """The names that a loaded object satisfies from then on."""

    def renames(self, item: Object, want: Want) -> bool:
        """Whether a loaded object that turns out to be what is wanted is known by that name, too, from then on."""

    def given(self, want: Want) -> bool:
        """Whether the loader is itself what is wanted."""

    def passes_over(self, binary: Binary) -> bool:
        """Whether the search goes on after a file like this."""

    def refuses(self, binary: Binary) -> str:
        """Why the loader ends at a file like this; empty where it loads it."""

    @property
    def checks_versions(self) -> bool: ...


def gather(program: Object, rules: Rules, walker: Walker, loader: Object | None = None) -> Process:
    """Every object of the program's process, and every pathname found or missing on the way.

    :param loader: the loader, where its own rules count it among the objects.
    """
    process = Process([program])
    names: dict[str, Object] = {}
    inodes: dict[tuple[int, int], Object] = {}
    for first in (program, loader) if loader else (program,):
        names.update(dict.fromkeys(rules.aliases(first), first))
        stat = walker.walk(first.spot.view).stat
        if stat:
            inodes[stat.identity] = first
    waiting = deque([program])
    while waiting:
        item = waiting.popleft()
        filters: list[Object] = []
        for want in item.binary.wants:
            if want.name in names or rules.given(want):
                continue
            found = _find(want, item, rules, walker)
            if isinstance(found, Absent):
                if want.tag != "AUXILIARY":
                    process.absent.append(found)
                continue
            candidate, binary, identity = found
            process.found.append(Found(want, item, candidate.spot, candidate.how))
            if identity in inodes:  # dl-load.c compares (st_dev, st_ino) of what it opened: one object with two names
                if rules.renames(inodes[identity], want):
                    names.setdefault(want.name, inodes[identity])
                continue
            new = Object(candidate.spot, binary, want.name, candidate.how, item)
            inodes[identity] = new
            for alias in rules.aliases(new):
                names.setdefault(alias, new)
            process.objects.append(new)
            (waiting if want.tag == "NEEDED" else filters).append(new)
        # dl-deps.c puts the objects that are filtered through before the one that names them: they are walked next.
        waiting.extendleft(reversed(filters))
    if rules.checks_versions:
        process.clashes = list(_clashes(process, names))
    return process


def _find(want: Want, by: Object, rules: Rules, walker: Walker) -> tuple[Candidate, Binary, tuple[int, int]] | Absent:
    searched: list[str] = []
    for candidate in rules.search(want, by):
        directory = posixpath.dirname(candidate.spot.view)
        if directory not in searched:
            searched.append(directory)
        walk = walker.walk(candidate.spot.view)
        if walk.stat is None:
            continue
        if walk.stat.kind is Kind.DIRECTORY:
            return Absent(want, by, tuple(searched), f"{candidate.spot.view} is a directory, and the loader looks no further")
        try:
            binary = elf.read(walk.final, walk.stat, walker.view)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.ENOENT, errno.ENOTDIR):
                continue
            return Absent(want, by, tuple(searched), f"{candidate.spot.view} cannot be read: {error.strerror}")
        except elf.BadElf as error:
            return Absent(want, by, tuple(searched), f"{candidate.spot.view} was found first, but {error}, and the loader looks no further")
        if rules.passes_over(binary):
            continue
        refusal = rules.refuses(binary)
        if refusal:
            return Absent(want, by, tuple(searched), f"{candidate.spot.view} was found first, but {refusal}, and the loader looks no further")
        return candidate, binary, walk.stat.identity
    return Absent(want, by, tuple(searched))


def _clashes(process: Process, names: dict[str, Object]) -> Iterable[Clash]:
    """Versions that are missing, as _dl_check_map_versions finds them: a library without any version table passes."""
    for item in process.objects:
        for version in item.binary.requires:
            provider = names.get(version.file)
            if provider is not None and not version.weak and provider.binary.defines is not None and version.name not in provider.binary.defines:
                yield Clash(version, item, provider)

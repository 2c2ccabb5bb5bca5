"""The image while it is being drawn up: wishes, which agree or are an error, and become entries."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import FileView, Kind, Stat
from pytest_nsjail.resolve.entry import Content, Entry
from pytest_nsjail.resolve.walk import Landing, Walk, land

# Whose permission bits stand when several want a path: what is written out, then what a Tree or Copy holds, the host's, and the default.
DEFAULT, HOST, HELD, WRITTEN = range(4)
_NOUNS = {Kind.FILE: "a file", Kind.DIRECTORY: "a directory", Kind.SYMLINK: "a symlink"}


@dataclass(frozen=True)
class Wish:
    """That one path be in the image.

    :param declaration: who wants it.
    :param why: how the declaration comes to want it, most specific first; empty where it names the path itself.
    :param rank: how much the mode weighs.
    :param identity: a FILE's inode, by which two wishes are known to mean one file.
    :param through: whether a symlink at the path itself is followed, as for a parent directory.
    :param named: whether the user wrote the path: then it may not leave the root.
    """

    path: str
    kind: Kind
    declaration: str
    why: tuple[str, ...] = ()
    mode: int = 0o755
    rank: int = DEFAULT
    content: Content | bytes | None = None
    target: str = ""
    mtime_ns: int = 0
    identity: tuple[int, int] | None = None
    through: bool = False
    named: bool = False

    @property
    def label(self) -> str:
        return f"{self.declaration} ({self.why[0]})" if self.why else self.declaration


class Draft:
    """All wishes so far. Their order plays no part in what becomes of them, except in who is named first."""

    def __init__(self) -> None:
        self._wishes: list[Wish] = []
        self._seen: set[tuple[str, str, Kind]] = set()

    def add(self, wish: Wish) -> None:
        """Take in a wish; a declaration's second reason for a path it already wants says nothing new."""
        self._wishes.append(wish)

    def source(self, walk: Walk, view: FileView, declaration: str, why: tuple[str, ...], given: str) -> None:
        """A regular file of the host under its own path: its directories, every symlink on the way, and itself."""
        self.way(walk, view, declaration, why, given)
        if self._new(declaration, walk.final, Kind.FILE):
            self.file(walk, view, walk.final, declaration, why)

    def file(self, walk: Walk, view: FileView, path: str, declaration: str, why: tuple[str, ...], *, mode: int | None = None, named: bool = False) -> None:
        """A regular file's bytes at ``path``."""
        assert walk.stat is not None
        content = Content(view, walk.final)
        bits, rank = (walk.stat.mode & 0o777, HOST) if mode is None else (mode & 0o1777, WRITTEN)
        self.add(Wish(path, Kind.FILE, declaration, why, bits, rank, content, mtime_ns=walk.stat.mtime_ns, identity=walk.stat.identity, named=named))

    def way(self, walk: Walk, view: FileView, declaration: str, why: tuple[str, ...], given: str) -> None:
        """What must be there for a path of the host to lead to where it leads."""
        for link, target in walk.links:
            if self._new(declaration, link, Kind.SYMLINK):
                self.add(Wish(link, Kind.SYMLINK, declaration, (f"symlink on the way to {given}", *why), 0o777, target=target))
        for directory in walk.directories:
            if self._new(declaration, directory, Kind.DIRECTORY):
                stat = view.lstat(directory)
                mode = directory_mode(stat) if stat else 0o755
                self.add(Wish(directory, Kind.DIRECTORY, declaration, (f"directory of {given}", *why), mode, HOST, through=True))

    def _new(self, declaration: str, path: str, kind: Kind) -> bool:
        before = len(self._seen)
        self._seen.add((declaration, path, kind))
        return len(self._seen) > before

    def entries(self) -> dict[str, Entry]:
        """The image: every wish placed through the image's own symlinks, every parent there, parents first.

        :raises ResolveError: where two wishes cannot both be fulfilled.
        """
        links = self._links()
        landed: dict[tuple[str, str], Landing] = {}
        slots: dict[str, list[Wish]] = {}
        for wish in self._wishes:
            way = _land(wish, links, landed)
            slots.setdefault(way.path, []).append(wish)
            for directory in way.directories:
                if directory not in slots or all(other.declaration != wish.declaration for other in slots[directory]):
                    slots.setdefault(directory, []).append(Wish(directory, Kind.DIRECTORY, wish.declaration, (f"directory of {wish.path}", *wish.why)))
        slots.pop("/", None)
        return {path: _agreed(path, slots[path]) for path in sorted(slots, key=lambda path: path.split("/"))}

    def _links(self) -> dict[str, str]:
        """Every symlink at its physical path. Each may move the others, so they are placed until nothing moves."""
        wishes = [wish for wish in self._wishes if wish.kind is Kind.SYMLINK]
        links: dict[str, str] = {}
        for _ in range(len(wishes) + 1):
            placed: dict[str, str] = {}
            landed: dict[tuple[str, str], Landing] = {}
            for wish in wishes:
                placed[_land(wish, links, landed).path] = wish.target
            if placed == links:
                return links
            links = placed
        names = ", ".join(sorted({wish.declaration for wish in wishes}))
        raise ResolveError(f"the symlinks of {names} lead in circles through each other", "Declare them without going through one another.")


def _land(wish: Wish, links: dict[str, str], landed: dict[tuple[str, str], Landing]) -> Landing:
    path = wish.path if wish.through else posixpath.dirname(wish.path)
    key = (path, wish.declaration if wish.named else "")
    if key not in landed:
        landed[key] = land(path, links, strict=wish.declaration if wish.named else "")
    way = landed[key]
    if wish.through:
        return way
    directories = way.directories if way.path == "/" else (*way.directories, way.path)
    return Landing(posixpath.join(way.path, posixpath.basename(wish.path)), directories)


def directory_mode(stat: Stat) -> int:
    """A directory's permission bits as an image takes them over: plain ones, or those of /tmp."""
    return 0o1777 if stat.mode & 0o1777 == 0o1777 else stat.mode & 0o777


def _agreed(path: str, wishes: list[Wish]) -> Entry:
    """The one entry that all wishes for a path are content with."""
    first = wishes[0]
    for other in wishes[1:]:
        if other.kind is not first.kind:
            raise _quarrel(path, first, _NOUNS[first.kind], other, _NOUNS[other.kind])
        if other.target != first.target:
            raise _quarrel(path, first, f"a symlink to {first.target}", other, f"one to {other.target}")
        if other.kind is Kind.FILE and not _same(first, other):
            raise _quarrel(path, first, f"with {_origin(first)}", other, f"with {_origin(other)}")
    rank = max(wish.rank for wish in wishes)
    weighty = [wish for wish in wishes if wish.rank == rank]
    for wish in weighty[1:]:
        if rank == WRITTEN and wish.mode != weighty[0].mode:
            raise _quarrel(path, weighty[0], f"with mode {weighty[0].mode:#o}", wish, f"with mode {wish.mode:#o}")
    # Equal bytes under different names: which of them is read must not hang on the order of declarations.
    content = min((wish.content for wish in wishes), key=lambda content: (not isinstance(content, Content), getattr(content, "path", "")))
    return Entry(
        path, first.kind, max(wish.mode for wish in weighty), _reasons(wishes), content, first.target, max(wish.mtime_ns for wish in wishes)
    )


def _reasons(wishes: Iterable[Wish]) -> tuple[str, ...]:
    """The chain of each declaration, the first declaration first."""
    chains: dict[str, tuple[str, ...]] = {}
    for wish in wishes:
        known = chains.get(wish.declaration)
        if known is None or len(wish.why) < len(known):
            chains[wish.declaration] = wish.why
    return tuple(dict.fromkeys(phrase for declaration, why in chains.items() for phrase in (*why, declaration)))


def _same(one: Wish, other: Wish) -> bool:
    if one.content == other.content or (one.identity is not None and one.identity == other.identity):
        return True
    return _bytes(one) == _bytes(other)


def _bytes(wish: Wish) -> bytes:
    if not isinstance(wish.content, Content):
        return wish.content or b""
    with wish.content.view.open(wish.content.path) as file:
        return file.read()


def _origin(wish: Wish) -> str:
    return f"the content of {wish.content.path}" if isinstance(wish.content, Content) else f"{len(wish.content or b'')} bytes of its own"


def _quarrel(path: str, one: Wish, this: str, other: Wish, that: str) -> ResolveError:
    problem = f"{one.label} wants {path} {_as(this)}, and {other.label} wants it {_as(that)}"
    return ResolveError(problem, "Give one of them another destination, or leave one out.")


def _as(what: str) -> str:
    return what if what.startswith("with ") else f"as {what}"

"""What is taken as it is: files, trees, what a stage made. Each checks that its source is what it says."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterable

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import FileView, Kind, Stat
from pytest_nsjail.resolve.draft import HELD, WRITTEN, Draft, Wish, directory_mode
from pytest_nsjail.resolve.entry import Content
from pytest_nsjail.resolve.walk import Walk, Walker
from pytest_nsjail.spec.dependency import Copy, Directory, File, Symlink, Text, Tree


def regular(path: str, walker: Walker, declaration: str) -> Walk:
    """The way to a regular file.

    :raises ResolveError: where something else is, or nothing.
    """
    walk = present(path, walker, declaration)
    assert walk.stat is not None
    if walk.stat.kind is Kind.DIRECTORY:
        raise ResolveError(f"{declaration}: {path} is a directory", f"Write Tree({path!r}), or Directory({path!r}) for an empty one.")
    _no_special(path, walk.stat, declaration)
    return walk


def directory(path: str, walker: Walker, declaration: str) -> Walk:
    """The way to a directory.

    :raises ResolveError: where something else is, or nothing.
    """
    walk = present(path, walker, declaration)
    assert walk.stat is not None
    _no_special(path, walk.stat, declaration)
    if walk.stat.kind is not Kind.DIRECTORY:
        raise ResolveError(f"{declaration}: {path} is a file", f"Write File({path!r}).")
    return walk


def present(path: str, walker: Walker, declaration: str, where: str = "on this host") -> Walk:
    """The way to whatever is there.

    :raises ResolveError: where nothing is.
    """
    try:
        walk = walker.walk(path)
    except ResolveError as error:
        raise ResolveError(f"{declaration}: {error.problem}", error.instead) from None
    if walk.stat is None:
        if walk.trouble:
            raise ResolveError(f"{declaration}: {path} cannot be reached: {walk.trouble}", "Make it readable for the user who runs pytest.")
        dangling = walker.dangling(path)
        through = f": {dangling}" if dangling else ""
        raise ResolveError(f"{declaration}: there is no {path} {where}{through}", "Write a path that exists when the image is built.")
    return walk


def _no_special(path: str, stat: Stat, declaration: str) -> None:
    if stat.kind is Kind.DEVICE:
        raise ResolveError(f"{declaration}: {path} is a device, and an image holds none", f"Give the run devices=[{path!r}].")
    if stat.kind in (Kind.SOCKET, Kind.FIFO):
        raise ResolveError(f"{declaration}: {path} is a {stat.kind.value}, and an image holds none", f"Give the run mounts=[Bind({path!r}, {path!r})].")


def unreadable(declaration: str, path: str, error: OSError) -> ResolveError:
    """That a source may not be read."""
    return ResolveError(f"{declaration}: {path} may not be read: {error.strerror or error}", "Make it readable for the user who runs pytest.")


def head(walk: Walk, view: FileView, declaration: str, size: int) -> bytes:
    """The first bytes of a source.

    :raises ResolveError: where it may not be read.
    """
    try:
        with view.open(walk.final) as file:
            return file.read(size)
    except OSError as error:
        raise unreadable(declaration, walk.final, error) from None


def file(dependency: File, draft: Draft, walker: Walker) -> None:
    """A :class:`File`."""
    declaration, source = repr(dependency), str(dependency.source)
    walk = regular(source, walker, declaration)
    head(walk, walker.view, declaration, 0)
    if dependency.to is None:
        draft.way(walk, walker.view, declaration, (), source)
    draft.file(walk, walker.view, str(dependency.to or walk.final), declaration, (), mode=dependency.mode, named=dependency.to is not None)


def tree(dependency: Tree, draft: Draft, walker: Walker) -> None:
    """A :class:`Tree`. Programs in it are files like others: what they need is declared on its own."""
    declaration, source = repr(dependency), str(dependency.source)
    walk = directory(source, walker, declaration)
    if dependency.to is None:
        if walk.final == "/":
            raise ResolveError(f"{declaration}: the whole root is too much", "Name the directories that are needed, or run with Bind('/', ...).")
        draft.way(walk, walker.view, declaration, (), source)
    hold(walker.view, walk.final, str(dependency.to or walk.final), declaration, draft, exclude=tuple(dependency.exclude), keep_time=True)


def copy(dependency: Copy, draft: Draft) -> None:
    """A :class:`Copy`: the path's own symlinks are followed, those below it are kept."""
    declaration, path, view = repr(dependency), str(dependency.path), dependency.stage.view
    walk = present(path, Walker(view), declaration, f"in the stage {dependency.stage!r}")
    assert walk.stat is not None
    _no_special(path, walk.stat, declaration)
    goes = str(dependency.to or path)
    if walk.stat.kind is Kind.DIRECTORY:
        hold(view, walk.final, goes, declaration, draft)
    else:
        draft.add(
            Wish(goes, Kind.FILE, declaration, (), walk.stat.mode & 0o777, HELD, Content(view, walk.final), identity=walk.stat.identity, named=True)
        )


def hold(view: FileView, source: str, goes: str, declaration: str, draft: Draft, *, exclude: Iterable[str] = (), keep_time: bool = False) -> None:
    """A directory with all that is in it. Devices, sockets and fifos stay out: an image holds none."""
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        path, to = posixpath.join(source, inner).rstrip("/"), posixpath.join(goes, inner).rstrip("/")
        stat = view.lstat(path or "/")
        if stat is None or (inner and _excluded(inner, exclude)):
            continue
        why = (f"in {source}",) if inner else ()
        if stat.kind is Kind.DIRECTORY:
            draft.add(Wish(to, Kind.DIRECTORY, declaration, why, directory_mode(stat), HELD, through=not inner, named=True))
            try:
                waiting += [posixpath.join(inner, name) for name in view.listdir(path or "/")]
            except OSError as error:
                raise unreadable(declaration, path, error) from None
        elif stat.kind is Kind.SYMLINK:
            draft.add(Wish(to, Kind.SYMLINK, declaration, why, 0o777, target=view.readlink(path), named=True))
        elif stat.kind is Kind.FILE:
            if stat.mode & 0o444 != 0o444:  # most are readable by everyone, and opening each would cost more than the walk
                head(Walk((), (), path, stat), view, declaration, 0)
            content, time = Content(view, path), stat.mtime_ns if keep_time else 0
            draft.add(Wish(to, Kind.FILE, declaration, why, stat.mode & 0o777, HELD, content, mtime_ns=time, identity=stat.identity, named=True))


def _excluded(inner: str, patterns: Iterable[str]) -> bool:
    name = posixpath.basename(inner)
    return any(fnmatch.fnmatchcase(inner if "/" in pattern else name, pattern.strip("/") if "/" in pattern else pattern) for pattern in patterns)


def literal(dependency: Text | Symlink | Directory, draft: Draft) -> None:
    """What the declaration itself holds."""
    declaration, path = repr(dependency), str(dependency.path)
    match dependency:
        case Text():
            content = dependency.content.encode() if isinstance(dependency.content, str) else dependency.content
            draft.add(Wish(path, Kind.FILE, declaration, (), dependency.mode & 0o1777, WRITTEN, content, named=True))
        case Symlink():
            draft.add(Wish(path, Kind.SYMLINK, declaration, (), 0o777, target=str(dependency.target), named=True))
        case Directory():
            draft.add(Wish(path, Kind.DIRECTORY, declaration, (), dependency.mode & 0o1777, WRITTEN, named=True))

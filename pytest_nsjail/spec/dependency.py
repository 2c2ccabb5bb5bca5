"""What an image can be made of. Each value checks itself when it is made, and says in its repr what the user wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from pytest_nsjail.errors import SpecError
from pytest_nsjail.fileview import FileView
from pytest_nsjail.spec import check
from pytest_nsjail.spec.check import StrPath


class Dependency(check.Declared):
    """Anything :func:`nsjail_image` takes."""

    __slots__ = ()


def _set(value: object, **fields: object) -> None:
    for name, field in fields.items():
        object.__setattr__(value, name, field)


class _Sourced(Dependency):
    """A path of the host, and where it goes: the same path unless told."""

    source: StrPath
    to: StrPath | None

    def __post_init__(self) -> None:
        declaration = repr(self)
        _set(self, source=check.source(declaration, self.source))
        if self.to is not None:
            _set(self, to=check.inside(declaration, "the destination", self.to))

    def _written(self, **more: object) -> str:
        parts = [repr(str(self.source))]
        parts += [f"{name}={value!r}" for name, value in (("to", self.to), *more.items()) if value not in (None, ())]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __repr__(self) -> str:
        return self._written()


@dataclass(frozen=True, repr=False)
class Elf(_Sourced):
    """A program (or a shared library), its ELF interpreter and every library it needs.

    :param source: the program on the host, absolute.
    :param to: where it goes in the image; its libraries stay where their loader looks for them.
    """

    source: StrPath
    to: StrPath | None = None


@dataclass(frozen=True, repr=False)
class Script(_Sourced):
    """A script, the interpreter its first line names, and that interpreter's own closure.

    Commands that the script runs are declared on their own.

    :param source: the script on the host, absolute.
    :param to: where it goes in the image.
    """

    source: StrPath
    to: StrPath | None = None


@dataclass(frozen=True, repr=False)
class File(_Sourced):
    """One regular file, as it is: nothing is read from it, and nothing it needs comes with it.

    :param source: the file on the host, absolute.
    :param to: where it goes in the image.
    :param mode: its permission bits; the source's unless told.
    """

    source: StrPath
    to: StrPath | None = None
    mode: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode is not None:
            check.permissions(repr(self), self.mode)

    def __repr__(self) -> str:
        return self._written(mode=self.mode)


@dataclass(frozen=True, repr=False)
class Tree(_Sourced):
    """A directory with all that is in it, symlinks as they are.

    :param source: the directory on the host, absolute.
    :param to: where it goes in the image.
    :param exclude: shell patterns (:mod:`fnmatch`): one without a slash leaves out every path of that name,
        one with a slash is held against the path below ``source``.
    """

    source: StrPath
    to: StrPath | None = None
    exclude: Iterable[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.exclude, str):
            raise SpecError(repr(self), f"exclude is the string {self.exclude!r}", f"Write a sequence: exclude=({self.exclude!r},).")
        _set(self, exclude=tuple(check.text(repr(self), "a pattern of exclude", pattern) for pattern in self.exclude))

    def __repr__(self) -> str:
        return self._written(exclude=self.exclude)


@dataclass(frozen=True)
class Text(Dependency):
    """A file whose content stands in the test.

    :param path: where it goes in the image.
    :param content: text, written as UTF-8, or bytes.
    :param mode: its permission bits.
    """

    path: StrPath
    content: str | bytes
    mode: int = 0o644

    def __post_init__(self) -> None:
        _set(self, path=check.inside(repr(self), "the path", self.path))
        if not isinstance(self.content, (str, bytes)):
            raise SpecError(repr(self), f"the content is {type(self.content).__name__}", "Write a string or bytes.")
        if isinstance(self.content, str):
            check.encodable(repr(self), "the content", self.content)
        check.permissions(repr(self), self.mode)

    def __repr__(self) -> str:
        long = isinstance(self.content, (str, bytes)) and len(self.content) > 24
        return f"Text({str(self.path)!r}, {f'{self.content[:24]!r}...' if long else repr(self.content)})"


@dataclass(frozen=True)
class Symlink(Dependency):
    """A symbolic link.

    :param path: where it goes in the image.
    :param target: what it points to, kept verbatim; relative targets start at the link's directory.
    """

    path: StrPath
    target: StrPath

    def __post_init__(self) -> None:
        _set(self, path=check.inside(repr(self), "the path", self.path), target=check.text(repr(self), "the target", self.target))

    def __repr__(self) -> str:
        return f"Symlink({str(self.path)!r}, {str(self.target)!r})"


@dataclass(frozen=True)
class Directory(Dependency):
    """An empty directory; its parents are made with 0o755.

    :param path: where it goes in the image.
    :param mode: its permission bits.
    """

    path: StrPath
    mode: int = 0o755

    def __post_init__(self) -> None:
        _set(self, path=check.inside(repr(self), "the path", self.path))
        check.permissions(repr(self), self.mode)

    def __repr__(self) -> str:
        mode = f"{self.mode:#o}" if isinstance(self.mode, int) else repr(self.mode)
        return f"Directory({str(self.path)!r}{f', mode={mode}' if self.mode != 0o755 else ''})"


class _Accounts(Dependency):
    """Names with their numbers."""

    ids: tuple[tuple[str, int], ...]
    __slots__ = ("ids",)

    def __init__(self, **ids: int) -> None:
        object.__setattr__(self, "ids", tuple(ids.items()))
        if not ids:
            raise SpecError(repr(self), "it names nobody", f"Write {type(self).__name__}(nodeuser=500).")
        for name, number in self.ids:
            check.account(repr(self), "a name here", name)
            check.identity(repr(self), name, number)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Accounts) and other.ids == self.ids

    def __hash__(self) -> int:
        return hash((type(self), self.ids))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={number}' for name, number in self.ids)})"


class Users(_Accounts):
    """Accounts for ``/etc/passwd``, each with a group of its own name and number in ``/etc/group``.

    ``Users(nodeuser=500)`` writes ``nodeuser:x:500:500::/:/bin/sh`` (passwd(5)). Several declarations are merged.
    """

    __slots__ = ()


class Groups(_Accounts):
    """Groups for ``/etc/group`` (group(5)), without members. Several declarations are merged."""

    __slots__ = ()


class Staged(Protocol):
    """The finished build stage that :class:`Copy` takes from: what :meth:`Image.stage` returns."""

    @property
    def view(self) -> FileView: ...


@dataclass(frozen=True)
class Copy(Dependency):
    """What a build stage made: a file, or a directory with all that is in it.

    :param stage: the stage, from :meth:`Image.stage`.
    :param path: the path in the stage.
    :param to: where it goes in the image; the same path unless told.
    """

    stage: Staged
    path: StrPath
    to: StrPath | None = None

    def __post_init__(self) -> None:
        if not hasattr(self.stage, "view"):
            raise SpecError(repr(self), f"{self.stage!r} is no stage", "Take the value that image.stage([...]) returns.")
        _set(self, path=check.inside(repr(self), "the path", self.path))
        if self.to is not None:
            _set(self, to=check.inside(repr(self), "the destination", self.to))

    def __repr__(self) -> str:
        return f"Copy({self.stage!r}, {str(self.path)!r}{f', to={str(self.to)!r}' if self.to is not None else ''})"

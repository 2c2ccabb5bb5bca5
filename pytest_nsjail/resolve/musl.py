"""Where musl's loader looks for a library: the rules of ldso/dynlink.c."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator

from pytest_nsjail.fileview import Kind
from pytest_nsjail.resolve.elf import DYN, EXEC, Binary, Want
from pytest_nsjail.resolve.objects import Candidate, Object, Spot
from pytest_nsjail.resolve.walk import Walker

_DEFAULT = ("/lib", "/usr/local/lib", "/usr/lib")
# load_library: names that are the loader itself, whatever is on disk.
_RESERVED = re.compile(r"lib(?:c|pthread|rt|m|dl|util|xnet)\.")
_LOADER = re.compile(r"ld-musl-(.+)\.so\.1")
_ORIGIN = re.compile(r"\$(?:\{ORIGIN\}|ORIGIN)")


def speaks(interpreter: str) -> bool:
    """Whether this PT_INTERP is musl's."""
    return _LOADER.fullmatch(posixpath.basename(interpreter)) is not None


class Musl:
    """The rules of one musl loader for one program.

    :param program: the main object.
    :param interpreter: PT_INTERP, from which the path file's name is made.
    """

    checks_versions = False

    def __init__(self, program: Object, interpreter: str, walker: Walker) -> None:
        self._program = program
        self.path_file = path_file(interpreter)
        self._system = system(self.path_file, walker)

    def given(self, want: Want) -> bool:
        # DT_FILTER and DT_AUXILIARY mean nothing to musl.
        return want.tag != "NEEDED" or _RESERVED.match(want.name) is not None

    def aliases(self, item: Object) -> Iterable[str]:
        # A loaded library is known by the name it was searched by, never by DT_SONAME; one found by its path by no name at all.
        return [item.name] if item.name and "/" not in item.name else []

    def renames(self, item: Object, want: Want) -> bool:
        return "/" not in want.name and not self.aliases(item)

    def passes_over(self, binary: Binary) -> bool:
        return False

    def refuses(self, binary: Binary) -> str:
        if binary.architecture != self._program.binary.architecture:
            return "it is for another architecture"
        return "" if binary.kind in (EXEC, DYN) else "it is an object file, no shared library"

    def search(self, want: Want, by: Object) -> Iterator[Candidate]:
        if "/" in want.name:
            yield Candidate(Spot.both(posixpath.join("/", want.name)), "by its path")
            return
        item: Object | None = by
        while item is not None:
            for directory in _rpath(item):
                yield Candidate(directory.map(want.name), f"found through the RPATH of {item.spot.image}")
            item = item.loader
        for path in self._system:
            yield Candidate(Spot.both(path).map(want.name), "found in a system directory")


def _rpath(item: Object) -> list[Spot]:
    """RUNPATH and RPATH are the same thing; a ``$`` that is no ``$ORIGIN`` makes musl discard the whole list (fixup_rpath)."""
    given = item.binary.runpath if item.binary.runpath is not None else item.binary.rpath or ""
    if "$" in _ORIGIN.sub("", given):
        return []
    origin = item.spot.parent
    elements = [element for element in re.split("[:\n]", given) if element]
    return [Spot(*(posixpath.join("/", _ORIGIN.sub(lambda _, o=place: o, element)) for place in (origin.view, origin.image))) for element in elements]


def path_file(interpreter: str) -> str:
    """``/etc/ld-musl-$ARCH.path``, below the prefix that the loader's own path has."""
    match = _LOADER.fullmatch(posixpath.basename(interpreter))
    prefix = posixpath.dirname(posixpath.dirname(interpreter)).rstrip("/")
    return f"{prefix}/etc/ld-musl-{match[1] if match else ''}.path"


def system(path: str, walker: Walker) -> tuple[str, ...]:
    """The directories looked in last: the path file's, which replaces the built-in ones even when it is empty."""
    walk = walker.walk(path)
    if walk.stat is None:
        return _DEFAULT
    if walk.stat.kind is not Kind.FILE:
        return ()
    try:
        with walker.view.open(walk.final) as file:
            text = file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return ()
    return tuple(posixpath.join("/", element) for element in re.split("[:\n]", text) if element)

"""Where glibc's loader looks for a library: the rules of elf/dl-load.c, for a process whose environment says nothing about it.

``LD_LIBRARY_PATH``, ``LD_PRELOAD`` and ``/etc/ld.so.preload`` are not asked: what a jail's environment holds is declared. The working
directory, which relative names and empty elements mean, is taken to be ``/``.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence

from pytest_nsjail.resolve import ldcache
from pytest_nsjail.resolve.elf import DYN, EXEC, Binary, Want
from pytest_nsjail.resolve.ldcache import Cache
from pytest_nsjail.resolve.objects import Candidate, Object, Spot
from pytest_nsjail.resolve.rtld import Rtld
from pytest_nsjail.resolve.walk import Walker

CACHE = "found through ld.so.cache"
# is_dst: the name ends where no letter, digit or underscore follows; $ORIGINX is literal.
_TOKEN = re.compile(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))")
# ELFOSABI_SYSV and ELFOSABI_GNU; anything else ends the process.
_OSABI = (0, 3)
ISA_LEVELS = ("x86-64-v4", "x86-64-v3", "x86-64-v2")


class Glibc:
    """The rules of one glibc loader for one program.

    :param program: the main object.
    :param levels: the glibc-hwcaps subdirectories this CPU has, best first.
    :param given: the name of a loader that is there without being asked for.
    """

    checks_versions = True

    def __init__(self, program: Object, rtld: Rtld, cache: Cache, levels: Sequence[str], walker: Walker, *, given: str = "") -> None:
        self._program, self._rtld, self._cache = program, rtld, cache
        self._levels, self._walker, self._given = tuple(levels), walker, given
        self._subdirectories = [f"glibc-hwcaps/{level}" for level in levels] + (_legacy(program.binary, levels) if rtld.legacy else [])
        self._below: dict[Spot, list[Spot]] = {}
        self._flags = ldcache.flags(program.binary)
        self._platform = _platform(program.binary, levels)
        self._own: dict[Object, list[Spot]] = {}

    def given(self, want: Want) -> bool:
        return want.name == self._given

    def aliases(self, item: Object) -> Iterable[str]:
        # _dl_name_match_p: the path, every name it was asked by, and DT_SONAME. A name with a token means something else to each who asks.
        return [name for name in (item.spot.view, item.name, item.binary.soname) if name and "$" not in name]

    def renames(self, item: Object, want: Want) -> bool:
        return "$" not in want.name

    def passes_over(self, binary: Binary) -> bool:
        # Measured with 2.36: a file of the other byte order is passed over like one of another machine.
        return binary.architecture != self._program.binary.architecture

    def refuses(self, binary: Binary) -> str:
        if binary.osabi not in _OSABI:
            return f"its OS ABI {binary.osabi} is not Linux's"
        if binary.kind not in (EXEC, DYN):
            return "it is an object file, no shared library"
        return ""

    def search(self, want: Want, by: Object) -> Iterator[Candidate]:
        if "/" in want.name:
            spot = self._expand(want.name, by)
            if spot is not None:
                yield Candidate(spot, "by its path")
            return
        for directory, how in self._paths(by):
            for place in self._variants(directory):
                yield Candidate(place.map(want.name), how)
        cached = self._cache.find(want.name, self._flags, self._levels)
        if cached is not None and not (by.binary.nodeflib and self._in_system(cached)):
            yield Candidate(Spot.both(cached), CACHE)
        if by.binary.nodeflib:
            return
        for system in self._rtld.directories:
            for place in self._variants(Spot.both(system)):
                yield Candidate(place.map(want.name), "found in a system directory")

    def _variants(self, directory: Spot) -> list[Spot]:
        """A directory behind those of its subdirectories that are for this CPU: open_path tries each that is there."""
        if directory not in self._below:
            there = {name for name in {sub.partition("/")[0] for sub in self._subdirectories} if self._walker.walk(posixpath.join(directory.view, name)).stat}
            self._below[directory] = [directory.map(sub) for sub in self._subdirectories if sub.partition("/")[0] in there] + [directory]
        return self._below[directory]

    def _paths(self, by: Object) -> Iterator[tuple[Spot, str]]:
        """DT_RPATH of the requester, of its loader and so on, then of the program; but only the requester's DT_RUNPATH, where it has one."""
        if by.binary.runpath is not None:
            for directory in self._directories(by):
                yield directory, f"found through the RUNPATH of {by.spot.image}"
            return
        chain: list[Object] = []
        item: Object | None = by
        while item is not None:
            chain.append(item)
            item = item.loader
        if self._program not in chain:
            chain.append(self._program)
        for item in chain:
            if item.binary.runpath is None:  # elf_get_dynamic_info: DT_RUNPATH makes its own object's DT_RPATH void
                for directory in self._directories(item):
                    yield directory, f"found through the RPATH of {item.spot.image}"

    def _directories(self, item: Object) -> list[Spot]:
        if item not in self._own:
            given = item.binary.rpath if item.binary.runpath is None else item.binary.runpath
            # decompose_rpath: an empty list is no directory; an empty element is the working directory.
            spots = [self._expand(element or "/", item) for element in given.split(":")] if given else []
            self._own[item] = [Spot(_trimmed(spot.view), _trimmed(spot.image)) for spot in spots if spot is not None]
        return self._own[item]

    def _expand(self, text: str, item: Object) -> Spot | None:
        """``$ORIGIN``, ``$LIB`` and ``$PLATFORM`` replaced; None where one of them has no value, and the element is dropped."""
        if "$PLATFORM" in text and not self._platform:
            return None
        origin = item.spot.parent

        def filled(place: str) -> str:
            values = {"ORIGIN": place, "LIB": self._rtld.lib, "PLATFORM": self._platform}
            return posixpath.join("/", _TOKEN.sub(lambda match: values[match[1] or match[2]], text))

        return Spot(filled(origin.view), filled(origin.image)) if "$" in text else Spot.both(posixpath.join("/", text))

    def _in_system(self, path: str) -> bool:
        return any(path.startswith(directory + "/") for directory in self._rtld.directories)


def _trimmed(directory: str) -> str:
    return directory.rstrip("/") or "/"


def _legacy(binary: Binary, levels: Sequence[str]) -> list[str]:
    """The subdirectories that glibc searched besides before 2.37, the longest first: each of these names or not, in this order (elf/dl-hwcaps.c)."""
    if (binary.machine, binary.bits) != (62, 64):
        return []
    names = ["tls", *(["haswell"] if _platform(binary, levels) == "haswell" else []), *(["avx512_1"] if ISA_LEVELS[0] in levels else []), "x86_64"]
    chosen = itertools.product((True, False), repeat=len(names))
    return ["/".join(itertools.compress(names, mask)) for mask in chosen if any(mask)]


def _platform(binary: Binary, levels: Sequence[str]) -> str:
    """AT_PLATFORM (getauxval(3)), which sysdeps/x86/cpu-features.c replaces by "haswell" on a CPU that has about x86-64-v3."""
    if (binary.machine, binary.bits) == (62, 64):
        return "haswell" if set(ISA_LEVELS[:2]) & set(levels) else "x86_64"
    return {3: "i686", 183: "aarch64", 22: "z900"}.get(binary.machine, "")

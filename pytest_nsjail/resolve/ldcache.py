"""The file that ldconfig(8) writes and glibc's loader asks: ``/etc/ld.so.cache``, read and written (elf/dl-cache.c, sysdeps/generic/dl-cache.h)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_nsjail.fileview import Kind
from pytest_nsjail.resolve.elf import Binary
from pytest_nsjail.resolve.memo import Memo
from pytest_nsjail.resolve.walk import Walker

_OLD, _NEW = b"ld.so-1.7.0\0", b"glibc-ld.so.cache1.1"
_HEADER = 48
_EXTENSION_MAGIC, _HWCAPS_TAG = 0xEAA42174, 1
_NAMED = 1 << 62  # DL_CACHE_HWCAP_EXTENSION: the low 32 bits count a glibc-hwcaps subdirectory
_LITTLE = 2  # cache_file_new_flags_endian_little
# FLAG_ELF_LIBC6 (3) with the ABI's own bits, by (e_machine, bits).
_FLAGS = {
    (62, 64): 0x303, (62, 32): 0x803, (3, 32): 0x003, (183, 64): 0xA03, (40, 32): 0x903,
    (21, 64): 0x503, (22, 64): 0x403, (243, 64): 0x1003, (258, 64): 0x1203,
}


@dataclass(frozen=True)
class Cached:
    """One library of the cache.

    :param level: the glibc-hwcaps subdirectory it is for, empty for every CPU.
    """

    flags: int
    path: str
    level: str = ""


@dataclass(frozen=True)
class Cache:
    """A whole cache: for each name the libraries, in the order of the file."""

    libraries: Mapping[str, tuple[Cached, ...]]

    def find(self, name: str, flags: int, levels: Sequence[str]) -> str | None:
        """The path the loader would take: the best level that this CPU has, else the plain one; the first of equals."""
        best, path = len(levels) + 1, None
        for cached in self.libraries.get(name, ()):
            rank = levels.index(cached.level) if cached.level in levels else len(levels) if not cached.level else best
            if cached.flags == flags and rank < best:
                best, path = rank, cached.path
        return path


def flags(binary: Binary) -> int:
    """What the loader of this architecture demands of an entry (_DL_CACHE_DEFAULT_ID)."""
    return _FLAGS.get((binary.machine, binary.bits), 0x003)


def parse(data: bytes) -> Cache:
    """Read a cache; an empty one where the bytes are something else, as the loader takes it."""
    start = 0
    if data.startswith(_OLD):
        # The old table stands before: a count, entries of 12 bytes, then the new header at the next multiple of 8.
        count = struct.unpack_from("=L", data, len(_OLD))[0] if len(data) >= 16 else 0
        start = (16 + 12 * count + 7) // 8 * 8
    if data[start : start + len(_NEW)] != _NEW or len(data) < start + _HEADER:
        return Cache({})
    count, _, _, extension = struct.unpack_from("=LLB3xL", data, start + len(_NEW))
    if len(data) < start + _HEADER + 24 * count:
        return Cache({})

    def string(offset: int) -> str:
        return data[start + offset : data.find(b"\0", start + offset)].decode("utf-8", "surrogateescape")

    levels = [string(offset) for offset in _hwcaps(data, start, extension)]
    libraries: dict[str, list[Cached]] = {}
    for kind, key, value, _, hwcap in struct.iter_unpack("=lLLLQ", data[start + _HEADER : start + _HEADER + 24 * count]):
        if hwcap and not hwcap & _NAMED:
            continue  # for a legacy subdirectory, which glibc 2.37 forgot
        index = hwcap & 0xFFFFFFFF
        if hwcap and index >= len(levels):
            continue
        libraries.setdefault(string(key), []).append(Cached(kind, string(value), levels[index] if hwcap else ""))
    return Cache({name: tuple(found) for name, found in libraries.items()})


def _hwcaps(data: bytes, start: int, extension: int) -> Iterable[int]:
    if not extension or len(data) < start + extension + 8:
        return []
    magic, count = struct.unpack_from("=LL", data, start + extension)
    if magic != _EXTENSION_MAGIC:
        return []
    for index in range(min(count, 64)):
        place = start + extension + 8 + 16 * index
        if len(data) < place + 16:
            return []
        tag, _, offset, size = struct.unpack_from("=LLLL", data, place)
        if tag == _HWCAPS_TAG:
            return struct.unpack_from(f"={size // 4}L", data, start + offset)
    return []


def write(libraries: Iterable[tuple[str, int, str]]) -> bytes:
    """A cache of these (name, flags, path): the new format alone, which glibc 2.2 and later read."""
    entries = sorted(set(libraries), key=lambda entry: (_sorting(entry[0]), entry))[::-1]
    base = _HEADER + 24 * len(entries)
    table, strings = b"", b""
    for name, kind, path in entries:
        key = base + len(strings)
        strings += name.encode("utf-8", "surrogateescape") + b"\0"
        value = base + len(strings)
        strings += path.encode("utf-8", "surrogateescape") + b"\0"
        table += struct.pack("=lLLLQ", kind, key, value, 0, 0)
    return _NEW + struct.pack("=LLB3xL12x", len(entries), len(strings), _LITTLE, 0) + table + strings


def _sorting(name: str) -> list[tuple[int, int]]:
    """The order of _dl_cache_libcmp: numbers by value and above every other character; the file is sorted downwards, for a binary search."""
    key: list[tuple[int, int]] = []
    for digits, other in re.findall(r"([0-9]+)|([^0-9])", name, re.DOTALL):
        key.append((1, int(digits)) if digits else (0, ord(other)))
    return key


_read: Memo[Cache] = Memo()


def read(path: str, walker: Walker) -> Cache:
    """The cache at ``path``; empty where there is none or it may not be read."""
    walk = walker.walk(path)
    if walk.stat is None or walk.stat.kind is not Kind.FILE:
        return Cache({})

    def parsed() -> Cache:
        try:
            with walker.view.open(walk.final) as file:
                return parse(file.read())
        except OSError:
            return Cache({})

    return _read.get(walk.stat, parsed)

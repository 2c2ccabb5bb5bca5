"""What the kernel and a loader read of an ELF file: its header, program headers and dynamic section (elf(5)).

Sections are never read: a stripped file has none, and a file of debug information has false ones. The reader is this module's own,
because pyelftools takes 1.4 ms for the same of one file; pyelftools has the names of machines, and the tests hold the two against each other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pytest_nsjail.fileview import FileView, Stat
from pytest_nsjail.resolve.memo import Memo

MAGIC = b"\x7fELF"
EXEC, DYN = 2, 3

_LOAD, _DYNAMIC, _INTERP = 1, 2, 3
_NEEDED, _STRTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 1, 5, 10, 14, 15, 29
_FLAGS_1, _VERDEF, _VERDEFNUM, _VERNEED, _VERNEEDNUM = 0x6FFFFFFB, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
_AUXILIARY, _FILTER = 0x7FFFFFFD, 0x7FFFFFFF
_NODEFLIB = 0x800
_WEAK = 0x2  # VER_FLG_WEAK
# No file has more; one that claims to is damaged.
_MOST_TAGS, _MOST_STRINGS = 1 << 14, 1 << 27


class BadElf(ValueError):
    """Not an ELF file, or a damaged one. The message is a clause: ``it is empty``."""


@dataclass(frozen=True)
class Want:
    """One object that another names in its dynamic section.

    :param name: as it stands there.
    :param tag: ``NEEDED``, ``FILTER`` or ``AUXILIARY``; only the last may be missing.
    """

    name: str
    tag: str


@dataclass(frozen=True)
class Version:
    """One symbol version that an object needs of another (DT_VERNEED)."""

    file: str
    name: str
    weak: bool


@dataclass(frozen=True)
class Binary:
    """One ELF file.

    :param bits: 32 or 64.
    :param kind: ``e_type``.
    :param interpreter: the loader that the kernel starts (PT_INTERP).
    :param dynamic: whether it has a dynamic section at all.
    :param defines: the symbol versions it defines; None where it has no such table, and no version is ever checked.
    """

    bits: int
    little: bool
    machine: int
    osabi: int
    kind: int
    interpreter: str | None = None
    dynamic: bool = False
    wants: tuple[Want, ...] = ()
    soname: str | None = None
    rpath: str | None = None
    runpath: str | None = None
    nodeflib: bool = False
    requires: tuple[Version, ...] = ()
    defines: frozenset[str] | None = None

    @property
    def architecture(self) -> tuple[int, bool, int]:
        """What two objects of one process have in common."""
        return self.bits, self.little, self.machine


def parse(file: BinaryIO) -> Binary:
    """Read one ELF file.

    :raises BadElf: for anything else.
    """
    head = file.read(64)
    if not head:
        raise BadElf("it is empty")
    if not head.startswith(MAGIC):
        raise BadElf("it is no ELF file")
    if len(head) < 52 or head[4] not in (1, 2) or head[5] not in (1, 2) or (head[4] == 2 and len(head) < 64):
        raise BadElf("its ELF header is cut short or damaged")
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    kind, machine = struct.unpack_from(order + "HH", head, 16)
    headers, size, count = struct.unpack_from(order + ("Q14xHH" if wide else "L10xHH"), head, 32 if wide else 28)
    basic = Binary(64 if wide else 32, order == "<", machine, head[7], kind)
    if count == 0:
        return basic
    if size != (56 if wide else 32):
        raise BadElf("its program headers have a wrong size")
    table = _at(file, headers, size * count, "its program headers are cut off")
    # p_type, p_offset, p_vaddr, p_filesz in both layouts of Elf_Phdr.
    layout = struct.Struct(order + ("L4xQQ8xQ16x" if wide else "LLL4xL12x"))
    segments = list(layout.iter_unpack(table))
    interpreter = next((_at(file, offset, length, "its PT_INTERP is cut off") for kind_, offset, _, length in segments if kind_ == _INTERP), None)
    name = None if interpreter is None else interpreter.split(b"\0")[0].decode("utf-8", "surrogateescape")
    dynamic = next(((offset, length) for kind_, offset, _, length in segments if kind_ == _DYNAMIC), None)
    loads = [(address, offset, length) for kind_, offset, address, length in segments if kind_ == _LOAD]
    if dynamic is None or dynamic[1] == 0:
        return Binary(*_header(basic), interpreter=name)
    return _Dynamic(file, order, wide, loads, *dynamic).binary(basic, name)


def _header(basic: Binary) -> tuple[int, bool, int, int, int]:
    return basic.bits, basic.little, basic.machine, basic.osabi, basic.kind


def _at(file: BinaryIO, offset: int, length: int, trouble: str) -> bytes:
    if length > _MOST_STRINGS or offset >= 1 << 62:
        raise BadElf(trouble)
    file.seek(offset)
    found = file.read(length)
    if len(found) < length:
        raise BadElf(trouble)
    return found


class _Dynamic:
    """The dynamic section of one open file."""

    def __init__(self, file: BinaryIO, order: str, wide: bool, loads: list[tuple[int, int, int]], offset: int, length: int) -> None:
        self._file, self._order, self._loads = file, order, loads
        entry = struct.Struct(order + ("qQ" if wide else "lL"))
        length = min(length, _MOST_TAGS * entry.size)
        raw = _at(file, offset, length - length % entry.size, "its dynamic section is cut off")
        self.tags: list[tuple[int, int]] = []
        for tag, value in entry.iter_unpack(raw):
            if tag == 0:
                break
            self.tags.append((tag & 0xFFFFFFFF, value))
        self.last = dict(self.tags)  # a loader keeps the last of each (elf_get_dynamic_info)
        if _STRTAB not in self.last:
            raise BadElf("its dynamic section names no strings: it holds debug information only, or is damaged")
        self._strings = _at(file, self._place(self.last[_STRTAB]), self.last.get(_STRSZ, 0), "its dynamic strings are cut off")

    def _place(self, address: int) -> int:
        """Where in the file an address of the loaded object is."""
        for start, offset, length in self._loads:
            if start <= address < start + length:
                return address - start + offset
        raise BadElf("its dynamic section points outside of what is loaded: it holds debug information only, or is damaged")

    def _string(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        if offset >= len(self._strings) or end < 0:
            raise BadElf("its dynamic section names a string outside of its strings")
        return self._strings[offset:end].decode("utf-8", "surrogateescape")

    def _named(self, tag: int) -> str | None:
        return self._string(self.last[tag]) if tag in self.last else None

    def binary(self, basic: Binary, interpreter: str | None) -> Binary:
        names = {_NEEDED: "NEEDED", _FILTER: "FILTER", _AUXILIARY: "AUXILIARY"}
        return Binary(
            *_header(basic),
            interpreter=interpreter,
            dynamic=True,
            wants=tuple(Want(self._string(value), names[tag]) for tag, value in self.tags if tag in names),
            soname=self._named(_SONAME),
            rpath=self._named(_RPATH),
            runpath=self._named(_RUNPATH),
            nodeflib=bool(self.last.get(_FLAGS_1, 0) & _NODEFLIB),
            requires=tuple(self._requires()),
            defines=frozenset(self._defines()) if _VERDEF in self.last else None,
        )

    def _records(self, tag: int, count: int, layout: str) -> Iterator[tuple[int, tuple[int, ...]]]:
        """A linked list of records in the file: the last field is the distance to the next, 0 for none."""
        record = struct.Struct(self._order + layout)
        position = tag
        for _ in range(min(count, _MOST_TAGS)):
            fields = record.unpack(_at(self._file, position, record.size, "its symbol versions are cut off"))
            yield position, fields
            if not fields[-1]:
                return
            position += fields[-1]

    def _requires(self) -> Iterator[Version]:
        if _VERNEED not in self.last:
            return
        # Elf_Verneed: version, count, file, aux, next; Elf_Vernaux: hash, flags, other, name, next.
        for place, (_, count, file, aux, _) in self._records(self._place(self.last[_VERNEED]), self.last.get(_VERNEEDNUM, 0), "HHLLL"):
            for _, (_, flags, _, name, _) in self._records(place + aux, count, "LHHLL"):
                yield Version(self._string(file), self._string(name), bool(flags & _WEAK))

    def _defines(self) -> Iterator[str]:
        # Elf_Verdef: version, flags, index, count, hash, aux, next; the first Elf_Verdaux (name, next) is the definition, others its parents.
        for place, fields in self._records(self._place(self.last[_VERDEF]), self.last.get(_VERDEFNUM, 0), "HHHHLLL"):
            for _, (name, _) in self._records(place + fields[5], 1, "LL"):
                yield self._string(name)


_parsed: Memo[Binary] = Memo()


def read(path: str, stat: Stat, view: FileView) -> Binary:
    """The ELF file at a physical path; parsed once for as long as the file stays the same.

    :raises BadElf: for anything else.
    :raises OSError: where it may not be read.
    """

    def parsed() -> Binary:
        with view.open(path) as file:
            return parse(file)

    return _parsed.get(stat, parsed)


def machine(binary: Binary) -> str:
    """The architecture in words: ``AArch64, 64-bit``."""
    from elftools.elf.descriptions import describe_e_machine
    from elftools.elf.enums import ENUM_E_MACHINE

    name = next((key for key, number in ENUM_E_MACHINE.items() if number == binary.machine), None)
    # pyelftools describes x86-64 as "Advanced Micro Devices X86-64", after readelf.
    said = f"machine {binary.machine}" if name is None else str(describe_e_machine(name)).replace("Advanced Micro Devices ", "")
    return f"{said}, {binary.bits}-bit{'' if binary.little else ', big-endian'}"

"""The process that an ELF program becomes: its loader, chosen by PT_INTERP, and all that this loader brings together."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from pytest_nsjail.fileview import Kind
from pytest_nsjail.resolve import elf, ldcache, musl, rtld
from pytest_nsjail.resolve.elf import Binary
from pytest_nsjail.resolve.loader import Glibc
from pytest_nsjail.resolve.musl import Musl
from pytest_nsjail.resolve.objects import Absent, Clash, Object, Process, Rules, Spot, gather
from pytest_nsjail.resolve.walk import Walker


def start(spot: Spot, binary: Binary, walker: Walker, cpu_levels: Sequence[str]) -> Process:
    """What the loader of one program finds and misses.

    A shared library without PT_INTERP is taken as the first object of a process with its architecture's usual glibc loader.

    :param spot: the program's physical path, from which ``$ORIGIN`` is made.
    """
    program = Object(spot, binary)
    if not binary.wants:
        return Process([program])
    interpreter = binary.interpreter or rtld.usual(binary)
    if musl.speaks(interpreter):
        rules = Musl(program, interpreter, walker)
        process = gather(program, rules, walker)
        return Process(process.objects, process.found, process.absent, process.clashes, [rules.path_file])
    loader = _loader(interpreter, walker) if binary.interpreter else None
    facts = rtld.read(interpreter, binary, walker)
    # Whoever opens a library that is declared alone has a loader already, which libc.so.6 needs by its name.
    given = "" if binary.interpreter else posixpath.basename(interpreter)
    glibc: Rules = Glibc(program, facts, ldcache.read(facts.cache, walker), cpu_levels, walker, given=given)
    return gather(program, glibc, walker, loader)


def _loader(path: str, walker: Walker) -> Object | None:
    """The loader as the object it is: loaded before all others, it satisfies its own SONAME."""
    walk = walker.walk(path if path.startswith("/") else "/" + path)
    if walk.stat is None or walk.stat.kind is not Kind.FILE:
        return None
    try:
        return Object(Spot.both(path), elf.read(walk.final, walk.stat, walker.view))
    except (elf.BadElf, OSError):
        return None


def absences(missing: Sequence[Absent]) -> str:
    """All that is missing, what one object misses in one place together."""
    groups: dict[tuple[str, tuple[str, ...], str], list[Absent]] = {}
    for absent in missing:
        groups.setdefault((absent.by.spot.image, absent.plain, absent.fatal), []).append(absent)
    return "; ".join(_together(group) for group in groups.values())


def _together(group: Sequence[Absent]) -> str:
    if len(group) == 1 or group[0].fatal:
        return "; ".join(map(absence, group))
    names = ", ".join(absent.want.name for absent in group)
    return f"{names}, which {group[0].by.spot.image} needs, are not there; looked in {', '.join(group[0].plain) or 'no directory'}"


def absence(absent: Absent) -> str:
    """What is missing, and who needs it, as a clause."""
    need = f"{absent.want.name}, which {absent.by.spot.image} needs ({absent.want.tag})"
    if absent.fatal:
        return f"{need}, cannot be loaded: {absent.fatal}"
    return f"{need}, is not there; looked in {', '.join(absent.plain) or 'no directory'}"


def disagreement(clash: Clash) -> str:
    """Which version is missing where, as a clause."""
    has = sorted(clash.provider.binary.defines or (), key=_numbers)
    family = [name for name in has if name.split("_")[0] == clash.version.name.split("_")[0] and "PRIVATE" not in name]
    newest = f", whose newest is {family[-1]}" if family else ""
    return f"{clash.by.spot.image} needs version {clash.version.name} of {clash.version.file}, and {clash.provider.spot.image} does not define it{newest}"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.rpartition("_")[2].split(".") if part.isdigit()]

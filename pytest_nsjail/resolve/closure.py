"""From declarations to every path of the image: the whole of the resolver on one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.resolve import accounts, ldcache, rtld, sources
from pytest_nsjail.resolve.draft import Draft, Wish
from pytest_nsjail.resolve.entry import Closure, Entry
from pytest_nsjail.resolve.inside import ClosureView
from pytest_nsjail.resolve.loader import CACHE
from pytest_nsjail.resolve.needs import Needs, Running
from pytest_nsjail.resolve.objects import Absent, Found, Process, Spot
from pytest_nsjail.resolve.process import absence, absences, disagreement, start
from pytest_nsjail.resolve.walk import Walker
from pytest_nsjail.spec.dependency import Copy, Dependency, Directory, Elf, File, Groups, Script, Symlink, Text, Tree, Users


def resolve(dependencies: Sequence[Dependency], view: FileView, *, cpu_levels: Sequence[str] = ()) -> Closure:
    """Every path that must exist for the declared programs to start and run, each with its reason.

    Nothing is executed and nothing is asked but ``view`` and the stages of :class:`Copy`. The libraries are those that the program's own
    loader would take; then the loader's rules are asked again of the finished image, so that what a program needs is known to be found there.

    :param view: the host.
    :param cpu_levels: the glibc-hwcaps subdirectories this CPU has, best first: ``("x86-64-v3", "x86-64-v2")``. The image holds the copy of a
        library that this CPU's loader takes and no other, because it is used here and thrown away; without levels it holds the baseline,
        which every CPU runs.
    :raises ResolveError: where a declaration cannot be satisfied, or two contradict each other.
    """
    draft = Draft()
    needs = Needs(draft, Walker(view), cpu_levels)
    for dependency in dependencies:
        _wish(dependency, draft, needs)
    _accounts([dependency for dependency in dependencies if isinstance(dependency, (Users, Groups))], draft)
    entries = draft.entries()
    caches = _only_by_cache(needs.running, entries, cpu_levels)
    if caches:
        for wish in caches:
            draft.add(wish)
        entries = draft.entries()
    _verify(needs, entries, cpu_levels)
    return Closure(entries)


def _wish(dependency: Dependency, draft: Draft, needs: Needs) -> None:
    match dependency:
        case Elf():
            needs.elf(str(dependency.source), _to(dependency), repr(dependency))
        case Script():
            needs.script(str(dependency.source), _to(dependency), repr(dependency))
        case File():
            sources.file(dependency, draft, needs.walker)
        case Tree():
            sources.tree(dependency, draft, needs.walker)
        case Copy():
            sources.copy(dependency, draft)
        case Text() | Symlink() | Directory():
            sources.literal(dependency, draft)
        case Users() | Groups():
            pass  # one file is made of all of them
        case _:
            raise ResolveError(f"{dependency!r} is no dependency that can be resolved", "Write Elf(...), Script(...), File(...), Tree(...), Text(...).")


def _to(dependency: Elf | Script) -> str | None:
    return None if dependency.to is None else str(dependency.to)


def _accounts(declarations: Sequence[Users | Groups], draft: Draft) -> None:
    merged = accounts.merge(declarations)
    for path, text in ((accounts.PASSWD, merged.passwd), (accounts.GROUP, merged.group)):
        for declaration in declarations if text else ():
            if path == accounts.GROUP or isinstance(declaration, Users):
                draft.add(Wish(path, Kind.FILE, repr(declaration), (), 0o644, content=text.encode(), named=True))


def _inside(program: Running, walker: Walker, cpu_levels: Sequence[str]) -> Process:
    """What the program's loader finds in the image."""
    return start(Spot.both(walker.walk(program.image).final), program.binary, walker, cpu_levels)


def _only_by_cache(running: Sequence[Running], entries: Mapping[str, Entry], cpu_levels: Sequence[str]) -> list[Wish]:
    """The cache that the image needs: libraries that the host's loader knows from ld.so.conf alone, and would not find again without it."""
    walker = Walker(ClosureView(entries))
    caches: dict[str, dict[tuple[str, int, str], list[Running]]] = {}
    for program in running:
        cached = [found for found in program.process.found if found.how == CACHE]
        if not cached:
            continue
        again = {(found.want.name, _asker(found)): found for found in _inside(program, walker, cpu_levels).found}
        path = rtld.read(program.binary.interpreter or rtld.usual(program.binary), program.binary, walker).cache
        for found in cached:
            other = again.get((found.want.name, _asker(found)))
            if other is None or walker.walk(other.spot.view).final != walker.walk(found.spot.image).final:
                library = (found.want.name, ldcache.flags(program.binary), found.spot.image)
                caches.setdefault(path, {}).setdefault(library, []).append(program)
    return [wish for path, libraries in caches.items() for wish in _cache(path, libraries)]


def _cache(path: str, libraries: Mapping[tuple[str, int, str], Sequence[Running]]) -> Iterator[Wish]:
    content = ldcache.write(libraries)
    for program in dict.fromkeys(program for programs in libraries.values() for program in programs):
        names = ", ".join(name for (name, _, _), programs in libraries.items() if program in programs)
        why = (f"made for {names}, which {program.image} finds through ld.so.cache only", *program.why)
        yield Wish(path, Kind.FILE, program.declaration, why, 0o644, content=content)


def _asker(found: Found) -> str:
    return found.by.spot.image if found.by.loader else ""


def _verify(needs: Needs, entries: Mapping[str, Entry], cpu_levels: Sequence[str]) -> None:
    """Ask the loaders again, of the image.

    :raises ResolveError: for what they would miss there.
    """
    walker = Walker(ClosureView(entries))
    for expected in needs.expected:
        if not any(walker.walk(path).stat for path in expected.paths):
            raise expected.error
    for program in needs.running:
        process = _inside(program, walker, cpu_levels)
        if process.absent:
            raise _missing(process.absent, program)
        for clash in process.clashes:
            advice = f"Take {clash.version.file} from where {clash.by.spot.image} was built, or build it against this host's."
            raise ResolveError(f"{_chain(program)}: {disagreement(clash)}", advice)


def _missing(missing: Sequence[Absent], program: Running) -> ResolveError:
    absent = missing[0]
    on_host = next((found for found in program.process.found if found.want == absent.want and _asker(found) in ("", absent.by.spot.image)), None)
    if on_host is not None and not absent.fatal:
        return ResolveError(
            f"{_chain(program)}: in the image {absence(absent)}; on the host it is {on_host.spot.view} ({on_host.how})",
            f"Put it where the program looks: Elf({on_host.spot.view!r}, to='{(absent.plain or ('/usr/lib',))[0]}/{absent.want.name}').",
        )
    # What the host's loader says of it is more: a file that ends its search there may be no part of the image.
    told = next((other for other in program.process.absent if other.want == absent.want), absent)
    if told.fatal:
        return ResolveError(f"{_chain(program)}: {absence(told)}", "Replace or remove that file, or mend the search path that names its directory first.")
    directory = (absent.plain or ("/usr/lib",))[-1]
    return ResolveError(
        f"{_chain(program)}: {absences(missing)}",
        f"Install the package that holds {absent.want.name}, or say where it is: Elf('/where/it/is/{absent.want.name}', to='{directory}/{absent.want.name}').",
    )


def _chain(program: Running) -> str:
    return " <- ".join((program.declaration, *reversed(program.why)))

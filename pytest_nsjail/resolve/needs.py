"""What programs need to start: an ELF's loader and libraries, a script's interpreters."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.resolve import elf, lookup, script, sources
from pytest_nsjail.resolve.draft import Draft
from pytest_nsjail.resolve.elf import Binary
from pytest_nsjail.resolve.objects import Process, Spot
from pytest_nsjail.resolve.process import start
from pytest_nsjail.resolve.walk import Walk, Walker


@dataclass(frozen=True, eq=False)
class Running:
    """An ELF program that must start in the image.

    :param image: its path there.
    :param process: what its loader found on the host.
    """

    image: str
    binary: Binary
    process: Process
    declaration: str
    why: tuple[str, ...]


@dataclass(frozen=True)
class Expected:
    """One of these paths must be in the image, whoever brings it; else the error is raised."""

    paths: tuple[str, ...]
    error: ResolveError


@dataclass
class Needs:
    """Walks from programs to what they need, and wishes for all of it."""

    draft: Draft
    walker: Walker
    cpu_levels: Sequence[str]
    running: list[Running] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)

    @property
    def view(self) -> FileView:
        return self.walker.view

    def elf(self, source: str, to: str | None, declaration: str) -> None:
        """An ELF program with all its libraries.

        :raises ResolveError: where it is something else.
        """
        walk = sources.regular(source, self.walker, declaration)
        if sources.head(walk, self.view, declaration, 2) == b"#!":
            raise ResolveError(f"{declaration}: {source} is a script", f"Write {declaration.replace('Elf', 'Script', 1)}.")
        self._elf(walk, source, to, declaration, ())

    def _elf(self, walk: Walk, source: str, to: str | None, declaration: str, why: tuple[str, ...]) -> None:
        assert walk.stat is not None
        try:
            binary = elf.read(walk.final, walk.stat, self.view)
        except elf.BadElf as error:
            raise ResolveError(f"{declaration}: {source} is no program: {error}", f"Write File({source!r}) to take it as it is.") from None
        except OSError as error:
            raise sources.unreadable(declaration, source, error) from None
        if binary.kind not in (elf.EXEC, elf.DYN):
            raise ResolveError(f"{declaration}: {source} is an ELF object file or core dump, no program and no shared library", f"Write File({source!r}).")
        self._place(walk, source, to, declaration, why)
        image = to or walk.final
        if binary.interpreter is not None:
            self._interpreter(binary.interpreter, (f"ELF interpreter of {image}", *why), declaration, image)
        process = start(Spot(walk.final, image), binary, self.walker, self.cpu_levels)
        reasons = {process.objects[0]: why}
        for item in process.objects[1:]:
            assert item.loader is not None
            reasons[item] = (f"NEEDED by {item.loader.spot.image} ({item.how})", *reasons[item.loader])
        for found in process.found:
            reason = (f"{found.want.tag} by {found.by.spot.image} ({found.how})", *reasons[found.by])
            to_here = None if found.spot.view == found.spot.image else found.spot.image
            self._place(self.walker.walk(found.spot.view), found.spot.view, to_here, declaration, reason)
        for file in process.files:
            read = self.walker.walk(file)
            if read.stat is not None:
                self._place(read, file, None, declaration, (f"read by the loader of {image}", *why))
        self.running.append(Running(image, binary, process, declaration, why))

    def _place(self, walk: Walk, given: str, to: str | None, declaration: str, why: tuple[str, ...]) -> None:
        if to is None:
            self.draft.source(walk, self.view, declaration, why, given)
        else:
            self.draft.file(walk, self.view, to, declaration, why, named=True)

    def _interpreter(self, path: str, why: tuple[str, ...], declaration: str, image: str) -> None:
        path = posixpath.join("/", path)
        walk = self.walker.walk(path)
        if walk.stat is None or walk.stat.kind is not Kind.FILE:
            problem = f"{declaration}: the ELF interpreter {path} of {image} is not on this host"
            advice = f"Install the libc it was built for, or say where it is: File('/where/it/is', to={path!r})."
            self.expected.append(Expected((path,), ResolveError(problem, advice)))
        else:
            self.draft.source(walk, self.view, declaration, why, path)

    def script(self, source: str, to: str | None, declaration: str) -> None:
        """A script, its interpreter, the interpreter's interpreter, and the command that env(1) runs for it.

        :raises ResolveError: where it is something else, or the kernel would refuse its first line.
        """
        walk = sources.regular(source, self.walker, declaration)
        if sources.head(walk, self.view, declaration, 4) == elf.MAGIC:
            raise ResolveError(f"{declaration}: {source} is an ELF program", f"Write {declaration.replace('Script', 'Elf', 1)}.")
        waiting: list[tuple[str, str | None, tuple[str, ...], int]] = [(source, to, (), 0)]
        while waiting:
            path, goes, why, depth = waiting.pop()
            walk = sources.regular(path, self.walker, declaration)
            head = sources.head(walk, self.view, declaration, script.LONGEST_LINE + 1)
            if head.startswith(elf.MAGIC):
                self._elf(walk, path, goes, declaration, why)
                continue
            shebang = _shebang(head, path, declaration)
            if depth >= script.DEEPEST:
                problem = f"{declaration}: more than {script.DEEPEST} interpreters in a row are scripts, the last of them {path}"
                raise ResolveError(problem, "The kernel gives up with ELOOP: let one of them name a program.")
            self._place(walk, path, goes, declaration, why)
            image = goes or walk.final
            interpreter = posixpath.join("/", shebang.interpreter)
            if self.walker.walk(interpreter).stat is None:
                problem = f"{declaration}: the interpreter {interpreter} of {path} is not on this host"
                advice = f"Install it, or declare what brings {interpreter} into the image, or mend the first line of {path}."
                self.expected.append(Expected((interpreter,), ResolveError(problem, advice)))
            else:
                waiting.append((interpreter, None, (f"interpreter of {image}", *why), depth + 1))
            if shebang.runs_env:
                command = _command(shebang, path, declaration)
                found = command and lookup.find(command, lookup.DEFAULT_PATH, self.view)
                if found and self.walker.walk(found).stat:
                    waiting.append((found, None, (f"run by env for {image}", *why), 0))
                elif command:
                    problem = f"{declaration}: env runs {command!r} for {path}, and it is not in {lookup.DEFAULT_PATH}"
                    advice = f"Install it there, or declare it: Elf('/where/it/is/{command}', to='/usr/bin/{command}')."
                    self.expected.append(Expected(tuple(lookup.candidates(command, lookup.DEFAULT_PATH)), ResolveError(problem, advice)))


def _shebang(head: bytes, path: str, declaration: str) -> script.Shebang:
    try:
        shebang = script.parse(head)
    except script.BadShebang as error:
        raise ResolveError(f"{declaration}: {path} cannot start: {error}") from None
    if shebang is None:
        raise ResolveError(f"{declaration}: {path} does not start with '#!'", f"Write File({path!r}) to take it as it is, or give it a first line: #!/bin/sh.")
    if script.carriage_return(shebang):
        raise ResolveError(f"{declaration}: the first line of {path} ends in CR LF, and the kernel takes the CR for part of it", "Save it with Unix line ends.")
    return shebang


def _command(shebang: script.Shebang, path: str, declaration: str) -> str | None:
    try:
        return script.env_program(shebang.argument)
    except script.BadShebang as error:
        raise ResolveError(f"{declaration}: the first line of {path}: {error}") from None

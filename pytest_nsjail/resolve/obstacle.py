"""What keeps a program from starting, found by looking at the files that execve(2) and the loader would look at."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import Kind
from pytest_nsjail.resolve import elf, lookup, script
from pytest_nsjail.resolve.elf import Binary
from pytest_nsjail.resolve.loader import ISA_LEVELS
from pytest_nsjail.resolve.objects import Spot
from pytest_nsjail.resolve.process import absences, disagreement, start
from pytest_nsjail.resolve.walk import Walk, Walker


@dataclass(frozen=True)
class Obstacle:
    """One reason, with its way out.

    :param kernel: whether the kernel refuses, at execve(2); else the program that it started does.
    """

    problem: str
    instead: str
    kernel: bool = True


def obstacle(target: str, walker: Walker, path: str) -> Obstacle | None:
    """The first thing in the way of executing ``target``; None where nothing is seen.

    :param path: the PATH in which env(1) looks.
    """
    whose, advised = "it", target
    for _ in range(script.DEEPEST + 1):
        found = _file(target, walker, whose)
        if isinstance(found, Obstacle):
            return found
        head = _head(found, walker)
        if head.startswith(elf.MAGIC):
            return _elf(found, walker, target, whose)
        try:
            shebang = script.parse(head)
            if shebang is None:
                return _no_program(head, whose)
        except script.BadShebang as error:
            return Obstacle(f"{whose} cannot start: {error}", "Shorten the first line, or mend it.")
        line_end = _carriage_return(shebang, target)
        interpreter = posixpath.join("/", shebang.interpreter)
        present = _seen(interpreter, walker)
        if line_end and (not present or shebang.argument):
            return line_end
        if not present:
            return Obstacle(
                f"{whose} is a script, and its interpreter {interpreter} is not in the jail",
                f"Declare Script({advised!r}) in place of File, which brings the interpreter, or Elf({interpreter!r}).",
            )
        if shebang.runs_env:
            missing = _env(shebang, path, walker)
            if missing:
                return missing
        target, whose = interpreter, f"its interpreter {interpreter}"
    return Obstacle(f"more than {script.DEEPEST} interpreters in a row are scripts, the last of them {target}", "Let one of them name a program.")


def _seen(path: str, walker: Walker) -> bool:
    try:
        return walker.walk(path).stat is not None
    except ResolveError:  # the walk from the interpreter on says what is wrong with it
        return True


def _file(target: str, walker: Walker, whose: str) -> Walk | Obstacle:
    """The regular, executable file at ``target``, or why there is none."""
    try:
        walk = walker.walk(target)
    except ResolveError as error:
        return Obstacle(error.problem, error.instead)
    if walk.stat is None:
        dangling = walker.dangling(target)
        if dangling:
            return Obstacle(dangling, f"Declare what brings {walk.final}: Elf({target!r}) brings a symlink with all it leads to.")
        return Obstacle(f"there is no {target} in the jail", f"Declare it: Elf({target!r}) or Script({target!r}).")
    if walk.stat.kind is Kind.DIRECTORY:
        return Obstacle(f"{whose} is a directory", "Name a program in it.")
    if walk.stat.kind is not Kind.FILE:
        return Obstacle(f"{whose} is a {walk.stat.kind.value}, no program", "Name a regular file.")
    if not walk.stat.mode & 0o111:
        advice = f"Declare it with a mode: File('/its/source', to={target!r}, mode=0o755)."
        return Obstacle(f"{whose} is not executable: its mode is {walk.stat.mode:#o}", advice)
    return walk


def _head(walk: Walk, walker: Walker) -> bytes:
    try:
        with walker.view.open(walk.final) as file:
            return file.read(script.LONGEST_LINE + 1)
    except OSError:
        return b""


def _no_program(head: bytes, whose: str) -> Obstacle:
    if not head:
        return Obstacle(f"{whose} is empty", "Look at what wrote it.")
    if head.startswith(b"\xef\xbb\xbf#!"):
        return Obstacle(f"{whose} starts with a byte order mark, and so not with '#!'", "Save it as UTF-8 without one.")
    problem = f"{whose} is neither an ELF program nor a script: it does not start with '#!'"
    return Obstacle(problem, "Give it a first line like #!/bin/sh, or run ['/bin/sh', ...].")


def _carriage_return(shebang: script.Shebang, target: str) -> Obstacle | None:
    if not script.carriage_return(shebang):
        return None
    name = (shebang.argument or shebang.interpreter)[:-1]
    return Obstacle(
        f"the first line of {target} ends in CR LF, so that {name!r} is looked for with a '\\r' at its end",
        "Save it with Unix line ends: content.replace('\\r\\n', '\\n').",
        kernel=not shebang.argument,
    )


def _env(shebang: script.Shebang, path: str, walker: Walker) -> Obstacle | None:
    try:
        command = script.env_program(shebang.argument)
    except script.BadShebang as error:
        return Obstacle(str(error), "Mend the first line.", kernel=False)
    return _not_on_path(command, path, walker) if command else None


def _not_on_path(command: str, path: str, walker: Walker) -> Obstacle | None:
    if any(lookup.executable(candidate, walker) for candidate in lookup.candidates(command, path)):
        return None
    return Obstacle(
        f"env looks for {command!r}, which is not in the jail's PATH {path}",
        f"Declare it: Elf('/usr/bin/{posixpath.basename(command)}'), or give the run an env with another PATH.", kernel=False,
    )


def _elf(walk: Walk, walker: Walker, target: str, whose: str) -> Obstacle | None:
    assert walk.stat is not None
    try:
        binary = elf.read(walk.final, walk.stat, walker.view)
    except (elf.BadElf, OSError) as error:
        return Obstacle(f"{whose} is damaged: {error}", "Look at what wrote it: it may be cut short.")
    if binary.kind not in (elf.EXEC, elf.DYN):
        return Obstacle(f"{whose} is an ELF object file, no program", "Link it first.")
    loader = _loader(binary, walker) if binary.interpreter else None
    process = start(Spot.both(walk.final), binary, walker, ISA_LEVELS)
    reasons = absences(process.absent)
    if loader is not None:
        more = f"; also missing: {reasons}" if reasons else ""
        advice = f"Declare Elf({target!r}) in place of File: it brings the loader and every library."
        return Obstacle(f"{whose} is dynamically linked, and {loader.problem}{more}", advice)
    if reasons:
        return Obstacle(reasons, f"Declare Elf({target!r}) in place of File: it brings every library.", kernel=False)
    if process.clashes:
        return Obstacle("; ".join(disagreement(clash) for clash in process.clashes), "Take the library from where the program was built.", kernel=False)
    return None


def _loader(binary: Binary, walker: Walker) -> Obstacle | None:
    """Why the kernel cannot start the program's loader (fs/binfmt_elf.c)."""
    path = posixpath.join("/", binary.interpreter or "")
    found = _file(path, walker, f"its ELF interpreter {path}")
    if isinstance(found, Obstacle):
        return found if _seen(path, walker) or walker.dangling(path) else Obstacle(f"its ELF interpreter {path} is not in the jail", "")
    assert found.stat is not None
    try:
        loader = elf.read(found.final, found.stat, walker.view)
    except (elf.BadElf, OSError) as error:
        return Obstacle(f"its ELF interpreter {path} is no loader: {error}", "")
    if loader.architecture != binary.architecture:
        return Obstacle(f"its ELF interpreter {path} is for {elf.machine(loader)}, and the program for {elf.machine(binary)}", "")
    return None

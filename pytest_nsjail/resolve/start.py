"""Why a program could not start, in words: the post mortem of execve(2) and of the loader."""

from __future__ import annotations

import errno as errnos
import posixpath
import re
import sys
from collections.abc import Collection

from pytest_nsjail.errors import ResolveError, StartError
from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.resolve import elf, lookup, script
from pytest_nsjail.resolve.obstacle import Obstacle, obstacle
from pytest_nsjail.resolve.walk import Walker

# glibc's loader, after the program's name and a colon; musl's, which names who needs what.
_GLIBC_TEXT = re.compile(r"error while loading shared libraries|version `[^']*' not found|symbol lookup error|relocation error")
_MUSL_TEXT = re.compile(r"Error (?:loading shared library .*\(needed by (?P<needy>.+)\)|relocating (?P<broken>[^:]+): )")
# What no file shows: the rest of execve(2)'s table.
_ELSEWHERE = {
    errnos.EACCES: ("the kernel denies it: a mount with noexec, or a directory on the way that the user may not search", "Look at the modes and at user=."),
    errnos.EPERM: ("the kernel denies it: a mount with nosuid, or a security module", "Look at the host's AppArmor or SELinux log."),
    errnos.E2BIG: ("its arguments and environment are too large together", "Pass the data in a file or on stdin."),
    errnos.ENOMEM: ("there is not enough memory to load it", "Raise Limits(memory=...)."),
    errnos.ETXTBSY: ("it is open for writing", "Close it before it is run."),
    errnos.ENOEXEC: ("the kernel does not know its format", "Give it a first line like #!/bin/sh, or build it for this machine."),
    errnos.ENOENT: ("the kernel finds no such file, though the jail's root shows it", "Look at what is mounted over it."),
    errnos.EAGAIN: ("its user has too many processes", "Raise Limits(processes=...)."),
    errnos.EMFILE: ("too many files are open", "Raise Limits(open_files=...)."),
    errnos.ENFILE: ("the system has too many open files", "Close some."),
    errnos.ENAMETOOLONG: ("its path is too long", "Shorten it."),
}
# e_machine, by the machine name of uname(2).
_MACHINES = {
    "x86_64": (62, 3), "i386": (3,), "i686": (3,), "aarch64": (183, 40), "arm": (40,),
    "riscv64": (243,), "s390x": (22,), "powerpc64le": (21,), "ppc64le": (21,),
}
_ENV_TEXT = re.compile(r"^(?:\S*/)?env: ['\u2018\"]?(.+?)['\u2019\"]?: No such file or directory", re.MULTILINE)


def explain(argv0: str, view: FileView, *, path: str, errno: int | None, stderr: str = "", architecture: str = "") -> StartError | None:
    """Why ``argv0`` could not start; None where it did, as far as the files tell.

    :param argv0: what was executed: a path (a relative one starts at the root), or a name looked up in ``path``.
    :param view: the jail's own root.
    :param path: the PATH of the jail's environment.
    :param errno: what ``execve(2)`` said; None where it succeeded and the program exited with 127.
    :param stderr: what the program wrote: its loader says there why it gave up. Without it, the files alone decide.
    :param architecture: this machine, as uname(2) names it; the running Python's unless told.
    """
    target = lookup.find(argv0, path, view)
    if target is None:
        return None if errno is None else StartError(argv0, *_unfound(argv0, path, Walker(view)), errno)
    if errno == errnos.ENOEXEC:
        foreign = _foreign(target, Walker(view), architecture or _own_architecture())
        if foreign:
            return StartError(target, foreign, "Build it for this machine, or declare an emulator and run the program with it.", errno)
    found = obstacle(target, Walker(view), path)
    if errno is None:
        return _after_start(argv0, target, found, stderr, path, view)
    if found is not None and found.kernel:
        return StartError(target, found.problem, found.instead, errno)
    return StartError(target, *_ELSEWHERE.get(errno, (f"the kernel says {errnos.errorcode.get(errno, errno)}", "See execve(2).")), errno)


def _unfound(argv0: str, path: str, walker: Walker) -> tuple[str, str]:
    """Why a name was not found in PATH, and the declaration that would help."""
    if not argv0:
        return "its name is empty", "Write the program's path."
    for candidate in lookup.candidates(argv0, path):
        found = obstacle(candidate, walker, path)
        try:
            there = walker.walk(candidate).stat is not None or bool(walker.dangling(candidate))
        except ResolveError:
            there = True
        if there and found:
            problem = found.problem if found.problem.startswith("the symlink") else f"{candidate}: {found.problem}"
            return f"no executable {argv0!r} is in the jail's PATH {path}; {problem}", found.instead
    advice = f"Declare it: Elf('/usr/bin/{argv0}') or Script('/usr/bin/{argv0}'), or give the run an env with another PATH."
    return f"no {argv0!r} is in the jail's PATH {path or '(which is empty)'}", advice


def _after_start(argv0: str, target: str, found: Obstacle | None, stderr: str, path: str, view: FileView) -> StartError | None:
    """The program ran: only its loader, or env(1), can still have missed something."""
    ran = _ran(argv0, target, path, view)
    missed = found is not None and not found.kernel
    line = _loader_line(stderr, {name for name, dynamic in ran if dynamic}, missed)
    command = _ENV_TEXT.search(stderr) if any(posixpath.basename(name) == "env" for name, _ in ran) else None
    if found is not None and missed and (not stderr or line or command):
        return StartError(target, found.problem, found.instead)
    if line:  # LD_LIBRARY_PATH, dlopen(3), a symbol: what the files alone do not tell
        return StartError(target, f"its loader gave up: {line.strip()}", "Declare what brings that library, as Elf(...).")
    if command and lookup.find(command[1], path, view) is None:
        return StartError(target, f"env looks for {command[1]!r}, which is not in the jail's PATH {path}", f"Declare it: Elf('/usr/bin/{command[1]}').")
    return None


def _ran(argv0: str, target: str, path: str, view: FileView) -> list[tuple[str, bool]]:
    """The programs that the process was, one after the other: by what name each was called, and whether it has a loader.

    A script is its interpreter, and env(1) becomes what it is told to run.
    """
    walker = Walker(view)
    found: list[tuple[str, bool]] = []
    todo: list[tuple[str, tuple[str, ...]]] = [(target, (argv0, target))]
    while todo and len(found) <= 2 * script.DEEPEST:
        target, names = todo.pop()
        try:
            walk = walker.walk(target)
            if walk.stat is None:
                continue
            with view.open(walk.final) as file:
                head = file.read(script.LONGEST_LINE + 1)
            dynamic = head.startswith(elf.MAGIC) and elf.read(walk.final, walk.stat, view).interpreter is not None
            found += [(name, dynamic) for name in names]
            shebang = script.parse(head)
            if shebang is None:
                continue
            command = script.env_program(shebang.argument) if shebang.runs_env else None
        except (ResolveError, elf.BadElf, script.BadShebang, OSError):
            continue
        if command and (program := lookup.find(command, path, view)):
            todo.append((program, (command,)))
        todo.append((posixpath.join("/", shebang.interpreter), (shebang.interpreter,)))
    return found


def _loader_line(stderr: str, names: Collection[str], missed: bool) -> str:
    """What a loader said, but for that of some child: empty where nothing was said by the loader of a program of these names.

    :param missed: whether the files tell that something is missing: musl names the library that needs it, where it is not the program.
    """
    for line in stderr.splitlines():
        musl = _MUSL_TEXT.match(line)
        if musl and names and (missed or (musl["needy"] or musl["broken"]) in names):
            return line
        if any(line.startswith(f"{name}: ") for name in names) and _GLIBC_TEXT.search(line):
            return line
    return ""


def _foreign(target: str, walker: Walker, architecture: str) -> str:
    """That the program is for another machine, naming both; empty where it is not."""
    native = _MACHINES.get(architecture)
    try:
        walk = walker.walk(target)
        if native is None or walk.stat is None or walk.stat.kind is not Kind.FILE:
            return ""
        binary = elf.read(walk.final, walk.stat, walker.view)
    except (ResolveError, elf.BadElf, OSError):
        return ""
    return "" if binary.machine in native else f"it is built for {elf.machine(binary)}, and this machine is {architecture}"


def _own_architecture() -> str:
    return str(getattr(sys.implementation, "_multiarch", "")).partition("-")[0]

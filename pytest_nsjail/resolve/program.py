"""Which declaration a program is, by its first bytes."""

from __future__ import annotations

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.resolve import elf, sources
from pytest_nsjail.resolve.walk import Walker
from pytest_nsjail.spec.dependency import Dependency, Elf, Script


def program(path: str, view: FileView) -> Dependency:
    """``Elf(path)`` or ``Script(path)``: the declaration that brings a program of the host with all it needs.

    :param path: the program, absolute; symlinks are followed.
    :raises ResolveError: for what is no program, saying what it is.
    """
    walk = sources.present(path, Walker(view), "no program")
    assert walk.stat is not None
    if walk.stat.kind is not Kind.FILE:
        raise ResolveError(f"{path} is a {walk.stat.kind.value}, no program", "Name a file that can be executed.")
    if not walk.stat.mode & 0o111:
        raise ResolveError(f"{path} is not executable: its mode is {walk.stat.mode:#o}", f"Run chmod +x {path}, or name its interpreter first.")
    head = sources.head(walk, view, "no program", 4)
    if head == elf.MAGIC:
        return Elf(path)
    if head.startswith(b"#!"):
        return Script(path)
    what = "empty" if not head else "neither an ELF program nor a script that starts with '#!'"
    raise ResolveError(f"{path} is {what}", "Give it a first line like #!/bin/sh, or name its interpreter first: ['/bin/sh', ...].")

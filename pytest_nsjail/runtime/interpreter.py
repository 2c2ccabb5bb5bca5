"""What this process's interpreter needs in a root that is not the host's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from pytest_nsjail.spec.dependency import Elf

# Prefixes that hold the whole system besides the interpreter.
_SYSTEM = ("/", "/usr", "/usr/local")


def imported_from() -> set[str]:
    """The directories that modules come from: those of ``sys.path``, and of what is imported by now; not each editable package is on the path."""
    found = {path for path in sys.path if path}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            found.add(os.path.dirname(file))
    return found


def prefixes() -> set[str]:
    """Where the interpreter is installed, its virtual environment and that one's base."""
    return {sys.prefix, sys.base_prefix, sys.exec_prefix}


def places() -> tuple[str, ...]:
    """Every directory of the host that it reads from, without symlinks, an outer one for all below it."""
    found = {os.path.realpath(path) for path in (*imported_from(), *(prefix for prefix in prefixes() if prefix not in _SYSTEM)) if os.path.exists(path)}
    return tuple(sorted(path for path in found if path not in _SYSTEM))


def dependencies() -> tuple[Elf, ...]:
    """Its program, and the shared libraries of its extension modules, as declarations of an image."""
    modules = set(_extensions(path for path in sys.path if os.path.basename(path) == "lib-dynload"))
    modules.update(file for module in list(sys.modules.values()) if isinstance(file := getattr(module, "__file__", None), str) and file.endswith(".so"))
    # The program by the name it was started by: the symlinks of a virtual environment lead from there to it.
    return tuple(Elf(path) for path in (sys.executable, *sorted({os.path.realpath(module) for module in modules})))


def _extensions(directories: Iterable[str]) -> Iterable[str]:
    for directory in directories:
        yield from (os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(".so"))

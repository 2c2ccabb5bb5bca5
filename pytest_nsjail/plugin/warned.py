"""Warnings of one process, issued in another."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import pytest


class NsjailWarning(pytest.PytestWarning):
    """Something of an isolated test is not as it would be in pytest's own process."""

    __module__ = "pytest_nsjail.plugin.warned"


def told(message: warnings.WarningMessage) -> list[Any]:
    """A warning as JSON."""
    category = message.category
    return [category.__module__, category.__qualname__, str(message.message), message.filename, message.lineno, message.line]


def heard(data: list[Any]) -> warnings.WarningMessage:
    """The warning again: of its own category where this process has it too, else of one that is called so. Nothing is imported for it."""
    module, name, text, filename, lineno, line = data
    known = found(module, name)
    category: type[Warning] = known if known is not None and issubclass(known, Warning) else _stand_in(module, name)
    try:
        # Not its constructor, which may want more than the text.
        message = Warning.__new__(category, text)
        same = str(message) == text
    except Exception:
        same = False
    if not same:
        category = _stand_in(module, name)
        message = category(text)
    return warnings.WarningMessage(message, category, filename, int(lineno), line=line)


def _stand_in(module: str, name: str) -> type[Warning]:
    return type(name.rpartition(".")[2], (Warning,), {"__module__": module, "__qualname__": name})


def found(module: str, name: str) -> type[BaseException] | None:
    """An exception's class among what is imported here; nobody's code is run for it."""
    at: Any = sys.modules.get(module)
    for part in name.split("."):
        at = vars(at).get(part) if at is not None and hasattr(at, "__dict__") else None
    return at if isinstance(at, type) and issubclass(at, BaseException) else None

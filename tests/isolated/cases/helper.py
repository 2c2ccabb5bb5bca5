"""What the test cases use and is no test: a module that warns, frames of another file, the log of what ran in which order."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

log = logging.getLogger("helper")


def note(what: str) -> None:
    """Append a line to the order log, which is in the run's temporary directory: an isolated test may write there."""
    path = Path(os.environ["ORDER_LOG"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{what}\n")


def deprecated() -> int:
    warnings.warn("helper.deprecated() is deprecated", DeprecationWarning, stacklevel=1)
    return 1


def deprecated_for_the_caller() -> int:
    warnings.warn("helper.deprecated_for_the_caller() is deprecated", DeprecationWarning, stacklevel=2)
    return 2


class OwnWarning(UserWarning):
    """A category that only the cases have."""


class OwnError(Exception):
    """An exception that only the cases have."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code

    def __str__(self) -> str:
        return f"own error {self.code}"


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def deep(depth: int) -> int:
    local = f"depth {depth}"
    if depth == 0:
        raise OwnError(7, local)
    return deep(depth - 1) + 1


def check(value: object) -> None:
    __tracebackhide__ = True
    if not value:
        raise AssertionError(f"check failed: {value!r}")


def speak(what: str) -> None:
    import sys

    print(f"{what}: out")
    print(f"{what}: err", file=sys.stderr)
    os.write(1, f"{what}: fd 1\n".encode())
    os.write(2, f"{what}: fd 2\n".encode())
    log.warning("%s: logged", what)
    log.info("%s: not at this level", what)

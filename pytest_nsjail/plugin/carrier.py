"""Exceptions of one process, raised in another: it happened there, and here all must go on as if it had been here."""

from __future__ import annotations

import ast
import bdb
import itertools
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, NoReturn

import pytest

from pytest_nsjail.plugin.warned import found


class Carrier(bdb.BdbQuit):
    """Stands for an exception of the child. It is of its class to whoever asks ``isinstance``; pytest shows it to no debugger, as it was shown there."""


def told(error: BaseException) -> dict[str, Any]:
    """An exception as JSON."""
    try:
        text = str(error)
    except Exception as other:
        text = f"<its text cannot be had: {other!r}>"
    # The classes behind it stand for it where the parent has not its own.
    classes = [[one.__module__, one.__qualname__] for one in type(error).__mro__ if issubclass(one, BaseException)]
    data: dict[str, Any] = {"class": classes, "text": text}
    if isinstance(error, pytest.skip.Exception):
        data["how"] = "skip"
    elif isinstance(error, pytest.xfail.Exception):
        data["how"] = "xfail"
    return data


def heard(data: dict[str, Any]) -> BaseException:
    """What to raise for it."""
    how, text = data.get("how"), str(data["text"])
    if how == "skip":
        return pytest.skip.Exception(text)
    if how == "xfail":
        return pytest.xfail.Exception(text)
    name = str(data["class"][0][1]).rpartition(".")[2]
    # Pytest's own have methods of which it asks; what has no class here is of one behind it.
    real = next((one for module, path in data["class"] if not module.startswith("_pytest.") and (one := found(module, path))), Exception)
    # Not a class below the real one: its constructor, or its layout, may want what is not here.
    kind: type[Carrier] = type(name, (Carrier,), {"__class__": property(lambda self: real), "__module__": str(data["class"][0][0])})
    return kind(text)


def frames(error: BaseException) -> list[list[Any]]:
    """Where it came from, below pytest's own tear-down: file, name, and the place in the file."""
    found: list[list[Any]] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = (trace.tb_lineno, trace.tb_lineno, 0, 0)
        if sys.version_info >= (3, 11):
            place = next(itertools.islice(code.co_positions(), trace.tb_lasti // 2, None), place)
        if code.co_name == "teardown_exact":
            found.clear()
        else:
            found.append([code.co_filename, code.co_name, trace.tb_lineno, *place[1:]])
        trace = trace.tb_next
    return found


def raised_by(error: BaseException, frames: list[list[Any]]) -> NoReturn:
    """Raise it through frames that look like those."""
    __tracebackhide__ = True

    def step() -> None:
        raise error

    for filename, name, line, end, column, end_column in reversed(frames):
        step = _through(step, str(filename), str(name), (int(line), int(end or line), int(column or 0), int(end_column or 0)))
    step()
    raise AssertionError("not reached")


def _through(step: Callable[[], None], filename: str, name: str, place: tuple[int, int, int, int]) -> Callable[[], None]:
    line, end, column, end_column = place
    at = {"lineno": line, "end_lineno": end, "col_offset": column, "end_col_offset": end_column}
    call = ast.Call(func=ast.Name(id="step", ctx=ast.Load(), **at), args=[], keywords=[], **at)
    body = compile(ast.Module(body=[ast.Expr(value=call, **at)], type_ignores=[]), filename, "exec")
    return FunctionType(body.replace(co_name=name), {"step": step, "__name__": ""})


def fail(text: str) -> NoReturn:
    """Let the test fail by these words alone. This line is not hidden: pytest would say of a traceback without any line that it is."""
    raise pytest.fail.Exception(text, pytrace=False)


def raised_at(error: BaseException, path: str, line: int) -> NoReturn:
    """Raise an exception so that its last line is another's."""
    __tracebackhide__ = True
    exec(compile("\n" * (line - 1) + "raise error", path, "exec"), {"error": error})
    raise AssertionError("not reached")

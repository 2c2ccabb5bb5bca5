"""What a report is spared: frames of this package, whose errors' messages say it all, and characters that are none."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import pytest

_PACKAGE = __name__.partition(".")[0]


def cut(call: pytest.CallInfo[None]) -> None:
    """Let an error of this package end in the user's own line: the test's, a fixture's or a hook's."""
    from pytest_nsjail.errors import NsjailError

    if call.excinfo is None or not isinstance(call.excinfo.value, NsjailError):
        return
    error = call.excinfo.value
    below = error.__cause__ or error.__context__
    if below is not None and (below.__traceback__ is None or _ours(below.__traceback__)):
        # What the package caught and put in its own words.
        error.__cause__ = None
        error.__suppress_context__ = True
    kept = _without_ours(error.__traceback__)
    if kept is not None:
        call.excinfo = pytest.ExceptionInfo.from_exception(error.with_traceback(kept))


def without(excinfo: pytest.ExceptionInfo[BaseException], modules: frozenset[str]) -> pytest.ExceptionInfo[BaseException]:
    """The same exception, whose traceback has no frame of some modules."""
    trace: TracebackType | None = excinfo.tb
    while trace is not None and trace.tb_frame.f_globals.get("__name__") not in modules:
        trace = trace.tb_next
    kept = cut_frames(excinfo.tb, modules) if trace is not None else None
    # What has nothing to leave out stays the very same: how it is shown may depend on how it was made.
    return excinfo if kept is None else pytest.ExceptionInfo.from_exception(excinfo.value.with_traceback(kept))


def cut_frames(trace: TracebackType | None, modules: frozenset[str]) -> TracebackType | None:
    """The same traceback, without the frames of some modules."""
    return _without(trace, lambda one: one.tb_frame.f_globals.get("__name__") in modules)


def printable(text: str) -> str:
    """A text that can be encoded: bytes of a program that are no UTF-8 are surrogates in it."""
    return text.encode(errors="backslashreplace").decode()


def encodable(data: object) -> object:
    """The same lists, dicts and scalars, with every text printable: pytest-xdist sends reports as UTF-8."""
    if isinstance(data, str):
        return printable(data)
    if isinstance(data, dict):
        return {key: encodable(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(map(encodable, data))
    return data


def _ours(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    return _without(trace, _ours)


def _without(trace: TracebackType | None, unwanted: Callable[[TracebackType], bool]) -> TracebackType | None:
    # Not by recursion: it may be that very error.
    kept: list[TracebackType] = []
    while trace is not None:
        if not unwanted(trace):
            kept.append(trace)
        trace = trace.tb_next
    rest: TracebackType | None = None
    for one in reversed(kept):
        rest = TracebackType(rest, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return rest

"""Values that JSON does not have: tuples, bytes and classes of exceptions keep their kind, whatever else becomes its text."""

from __future__ import annotations

from typing import Any

from pytest_nsjail.plugin.warned import found

_PLAIN = (str, int, float, bool, type(None))


def coded(value: object) -> Any:
    """The same value in JSON."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list):
        return [coded(one) for one in value]
    if isinstance(value, tuple):
        return {"tuple": [coded(one) for one in value]}
    if isinstance(value, dict):
        return {"dict": [[coded(key), coded(one)] for key, one in value.items()]}
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    if isinstance(value, type) and issubclass(value, BaseException):
        return {"class": [value.__module__, value.__qualname__]}
    return {"text": [str(value), repr(value)]}


class Text(str):
    """The text of a value that is not here, shown as the value would be."""

    __slots__ = ("_shown",)
    _shown: str

    def __repr__(self) -> str:
        return self._shown


def decoded(data: Any, *, shown: bool = False) -> Any:
    """What it stands for; of classes, those that are imported here, else their text.

    :param shown: whether a mere text is shown as its value would be. It is a :class:`Text` then, which pytest-xdist does not send.
    """
    if isinstance(data, list):
        return [decoded(one, shown=shown) for one in data]
    if not isinstance(data, dict):
        return data
    (kind, inside), *_ = data.items()
    if kind == "tuple":
        return tuple(decoded(one, shown=shown) for one in inside)
    if kind == "dict":
        return {decoded(key): decoded(one, shown=shown) for key, one in inside}
    if kind == "bytes":
        return str(inside).encode("latin-1")
    if kind == "text":
        text = Text(inside[0]) if shown else str(inside[0])
        if isinstance(text, Text):
            text._shown = str(inside[1])
        return text
    return found(*inside) or f"<class '{inside[0]}.{inside[1]}'>"

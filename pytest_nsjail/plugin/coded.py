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
    return str(value)


def decoded(data: Any) -> Any:
    """What it stands for; of classes, those that are imported here, else their text."""
    if isinstance(data, list):
        return [decoded(one) for one in data]
    if not isinstance(data, dict):
        return data
    (kind, inside), *_ = data.items()
    if kind == "tuple":
        return tuple(decoded(one) for one in inside)
    if kind == "dict":
        return {decoded(key): decoded(one) for key, one in inside}
    if kind == "bytes":
        return str(inside).encode("latin-1")
    return found(*inside) or f"<class '{inside[0]}.{inside[1]}'>"

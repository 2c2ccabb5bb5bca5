"""Failures of kinds that pytest cannot send, as it shows them: what they write to a terminal, call by call."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_nsjail.plugin import private

_CALLS = ("line", "write", "sep", "_write_source")


class _Recorder:
    """In a terminal writer's place."""

    def __init__(self, real: Any) -> None:
        self.hasmarkup, self.fullwidth = bool(getattr(real, "hasmarkup", False)), int(getattr(real, "fullwidth", 80))
        self.calls: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name not in _CALLS:
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append([name, list(args), kwargs])


def record(longrepr: Any, config: pytest.Config) -> list[Any]:
    """What a failure writes; nothing where it wants more of a terminal than is known here."""
    recorder = _Recorder(private.writer(config))
    try:
        longrepr.toterminal(recorder)
    except AttributeError:
        return []
    return recorder.calls


class Shown:
    """Such a failure again: it has no more than its looks."""

    def __init__(self, text: str, calls: list[Any]) -> None:
        self._text, self._calls = text, [(name, args, kwargs) for name, args, kwargs in calls if name in _CALLS]

    def __str__(self) -> str:
        return self._text

    def toterminal(self, out: Any) -> None:
        """Write it."""
        for name, args, kwargs in self._calls or [("line", [self._text], {})]:
            getattr(out, name)(*args, **kwargs)

"""Lines and branches, as coverage counts them, in memory and in JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

# A line of no real file; a number that is greater would only ask for memory.
_LAST_LINE = 1 << 24

Point = int | tuple[int, int]


class Measured:
    """What was run: for each context and file the lines, or with branches the pairs of lines."""

    def __init__(self) -> None:
        self._points: dict[str | None, dict[str, set[Any]]] = {}
        self.tracers: dict[str, str] = {}

    def add(self, context: str | None, points: Mapping[str, Collection[Any]]) -> None:
        """Add what was run in a context, by files."""
        files = self._points.setdefault(context, {})
        for file, numbers in points.items():
            files.setdefault(file, set()).update(numbers)

    def update(self, other: Measured) -> None:
        """Add all of another."""
        for context, files in other:
            self.add(context, files)
        self.tracers.update(other.tracers)

    def without(self, known: Measured) -> Measured:
        """What is not known yet."""
        new = Measured()
        for context, files in self:
            before = known._points.get(context, {})
            left = {file: points - before[file] if file in before else points for file, points in files.items()}
            if left := {file: points for file, points in left.items() if points or file not in before}:
                new.add(context, left)
        new.tracers = {file: name for file, name in self.tracers.items() if known.tracers.get(file) != name}
        return new

    def clear(self) -> None:
        """Forget everything."""
        self._points, self.tracers = {}, {}

    def __iter__(self) -> Iterator[tuple[str | None, dict[str, set[Any]]]]:
        return iter(self._points.items())

    def __bool__(self) -> bool:
        return bool(self._points)

    def told(self, *, arcs: bool) -> dict[str, Any]:
        """As JSON.

        :param arcs: whether these are pairs.
        """
        points = [
            [context, {file: [number for pair in numbers for number in pair] if arcs else list(numbers) for file, numbers in files.items()}]
            for context, files in self
        ]
        return {"points": points, "tracers": self.tracers}

    @classmethod
    def heard(cls, told: Any, *, arcs: bool) -> Measured:
        """From JSON that a process told which may be anybody's.

        :raises ValueError: for what no child of ours tells.
        """
        self = cls()
        try:
            for context, files in told["points"]:
                if not isinstance(context, str | None):
                    raise TypeError(context)
                for file, numbers in files.items():
                    if any(type(number) is not int or not -_LAST_LINE < number < _LAST_LINE for number in numbers):
                        raise ValueError(file)
                    self.add(context, {file: list(zip(numbers[::2], numbers[1::2], strict=True)) if arcs else numbers})
            self.tracers = {file: str(name) for file, name in told["tracers"].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no measurement of coverage's: {error!r}") from None
        return self

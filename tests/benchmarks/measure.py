"""Several ways to do one thing, measured side by side: interleaved rounds, medians, and the median of each round's ratio."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

Times = dict[str, list[float]]


def interleaved(ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1, pause: float = 0.0) -> Times:
    """Seconds of each way, round by round. Each round starts with another way, so that none is always the one after a slow one.

    :param pause: seconds after each, in which nothing is measured: what one way leaves to be done in the background (a spare jail, a
        network namespace to be taken down) is not to slow the next one.
    """
    names = list(ways)
    for name in names * warm_up:
        ways[name]()
    times: Times = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            ways[name]()
            times[name].append(time.perf_counter() - started)
            time.sleep(pause)
    return times


def back_to_back(ways: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Seconds of each way, one after the other without a breath; in turns of ten, so that a slow minute of the machine is everybody's."""
    times: Times = {name: [] for name in ways}
    for _ in range(rounds // 10):
        for name, way in ways.items():
            started = time.perf_counter()
            for _ in range(10):
                way()
            times[name] += [(time.perf_counter() - started) / 10] * 10
    return times


def table(times: Times, ours: str) -> str:
    """A Markdown table: medians, and how many times as long as ours each way took, as the median over the rounds."""
    rows = [
        (name, f"{median(seconds) * 1000:.2f} ms", f"{median(theirs / mine for theirs, mine in zip(seconds, times[ours], strict=True)):.2f}")
        for name, seconds in times.items()
    ]
    return markdown(("", "median", f"ratio to {ours}"), rows)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its numbers to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

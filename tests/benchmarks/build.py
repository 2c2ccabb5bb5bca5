"""How long the Node image takes: declared, resolved, built, and one program run in it."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from pytest_nsjail import Elf, Text, Users
from pytest_nsjail.runtime import Runtime
from tests.benchmarks.measure import markdown

ROUNDS = 5


def measured(directory: Path, true: Path) -> str:
    """The table: an empty store, one that holds the image (another process built it), and the same session again."""
    times: dict[str, list[float]] = {"cold store": [], "warm store": [], "same session": []}
    for number in range(ROUNDS):
        store = str(directory / f"store-{number}")
        with Runtime(store) as runtime:
            _start(runtime, true)
            times["cold store"].append(_build(runtime, true))
        with Runtime(store) as runtime:
            _start(runtime, true)
            times["warm store"].append(_build(runtime, true))
            times["same session"].append(_build(runtime, true))
    return markdown(("node image, and one run in it", "median"), [(name, f"{median(seconds) * 1000:.1f} ms") for name, seconds in times.items()])


def _start(runtime: Runtime, true: Path) -> None:
    """What a session does once, before it is measured."""
    runtime.run(["/true"], image=runtime.image(Elf(true, to="/true"), Text("/other", "")))


def _build(runtime: Runtime, true: Path) -> float:
    started = time.perf_counter()
    image = runtime.image(Elf("/usr/bin/node", to="/bin/node"), Elf("/bin/sh"), Elf("/usr/bin/env"), Elf(true, to="/true"), Users(nodeuser=500))
    result = runtime.run(["/true"], image=image)
    if not result.ok:
        raise SystemExit(f"the jailed program failed: {result!r}")
    return time.perf_counter() - started

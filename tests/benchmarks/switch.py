"""What it costs a jail to join a network, beside its own start; and what each fault takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from pytest_nsjail.network.network import Network
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.jail import Jail
from tests.benchmarks.measure import markdown

ROUNDS = 15
SIZES = (3, 16)
_SLEEP = ["/bin/busybox", "sleep", "600"]
# The kernel takes a network down in its own time, and nobody can change another one meanwhile.
_PAUSE = 0.5


def measured(directory: Path) -> str:
    """Two tables: joining, for networks of several sizes, and what is done to three jails in one."""
    with Runtime(str(directory / "store")) as runtime:
        alone = _rounds(lambda: _start(runtime, SIZES[0], joined=False)[0])
        rows = [(f"{SIZES[0]} jails in no network, started", "", "", _milliseconds(alone))]
        for size in SIZES:
            networks, joins, starts = zip(*(_join(runtime, size) for _ in range(ROUNDS)), strict=True)
            rows.append((f"{size} jails on one switch", *(_milliseconds(one) for one in (networks, joins, starts))))
        faults = [(name, _milliseconds(took)) for name, took in _faults(runtime).items()]
    return f"{markdown(('', 'the switch', 'joining', 'all in all'), rows)}\n\n{markdown(('', 'median'), faults)}"


def _rounds(way: Callable[[], float]) -> list[float]:
    return [way() for _ in range(ROUNDS)]


def _milliseconds(seconds: tuple[float, ...] | list[float]) -> str:
    return f"{median(seconds) * 1000:.1f} ms (least {min(seconds) * 1000:.1f})"


def _start(runtime: Runtime, size: int, *, joined: bool) -> tuple[float, float, float]:
    """Seconds of all, of the switch, and of joining it."""
    joining = 0.0
    join = Jail.join

    def timed(jail: Jail, network: Network) -> None:
        nonlocal joining
        began = time.perf_counter()
        join(jail, network)
        joining += time.perf_counter() - began

    Jail.join = timed  # type: ignore[method-assign]
    try:
        with ExitStack() as jails:
            began = time.perf_counter()
            net = jails.enter_context(runtime.network()) if joined else None
            made = time.perf_counter()
            for number in range(size):
                options = {"network": net, "name": f"n{number}"} if net else {}
                jails.callback(runtime.start(_SLEEP, **options).stop, 0)  # type: ignore[arg-type]
            took = time.perf_counter() - began
    finally:
        Jail.join = join  # type: ignore[method-assign]
    time.sleep(_PAUSE)
    return took, made - began, joining


def _join(runtime: Runtime, size: int) -> tuple[float, float, float]:
    took, switch, joining = _start(runtime, size, joined=True)
    return switch, joining, took


def _faults(runtime: Runtime) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    with runtime.network() as net, ExitStack() as jails:
        a, b, c = (runtime.start(_SLEEP, network=net, name=name) for name in "abc")
        for jail in (a, b, c):
            jails.callback(jail.stop, 0)
        net.shape(a, delay=0.01)
        net.shape(a)
        faults: dict[str, Callable[[], None]] = {
            "partition({a}, {b, c})": lambda: net.partition({a}, {b, c}),
            "heal()": net.heal,
            "isolate(a)": lambda: net.isolate(a),
            "heal() again": net.heal,
            "shape(a, delay=0.01)": lambda: net.shape(a, delay=0.01),
            "shape(a, delay=0.02)": lambda: net.shape(a, delay=0.02),
            "shape(a)": lambda: net.shape(a),
            "shape(a, rate='10M')": lambda: net.shape(a, rate="10M"),
            "shape(a) again": lambda: net.shape(a),
        }
        for _ in range(ROUNDS):
            for name, fault in faults.items():
                began = time.perf_counter()
                fault()
                times.setdefault(name, []).append(time.perf_counter() - began)
    return times

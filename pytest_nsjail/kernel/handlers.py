"""Handlers of signals that wait.

Python runs them in its main thread, between any two of its instructions, and there comes what they raise, as KeyboardInterrupt: between fork(2) and that
its result is kept, too. A child that nobody knows of is never reaped, and holds its pid namespace (pid_namespaces(7)), and with that whoever waits for it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pytest_nsjail.kernel import forks

# What ends a process, or tells it of time: whose handlers raise.
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Run no handler of Python's in the block, but when it has ended: for its signals, in their order, up to the first that raises.

    No mask (sigprocmask(2)) does that: another thread would take the signal, and the main one run the handler. In a process that is forked within the block
    the same holds, for signals of its own.
    """
    came: list[tuple[int, int]] = []
    over = False
    own: dict[signal.Signals, Callable[..., Any]] = {}

    def note(number: int, frame: object) -> None:
        if over:
            # Another's handler has raised before this one's was given back.
            own[signal.Signals(number)](number, frame)
        else:
            came.append((forks.depth(), number))

    try:
        # Another thread runs none, and may set none.
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                handler = signal.getsignal(number)
                if callable(handler):
                    own[number] = handler
                    signal.signal(number, note)
        yield
    finally:
        over = True
        for number, handler in own.items():
            signal.signal(number, handler)
        for depth, one in came:
            if depth == forks.depth():
                signal.raise_signal(one)

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

# What ends a process, tells it of time, or is its own to give a meaning to. The first is given back last: it is the one that comes.
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Run no handler of Python's in the block, but when it has ended: for its signals, in their order, up to the first that raises.

    No mask (sigprocmask(2)) does that: another thread would take the signal, and the main one run the handler. In a process that is forked within the block
    the same holds.
    """
    came: list[int] = []
    own: dict[signal.Signals, Callable[..., Any]] = {}
    try:
        # Another thread runs none, and may set none.
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                handler = signal.getsignal(number)
                if callable(handler):
                    own[number] = handler
                    signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in reversed(own.items()):
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)

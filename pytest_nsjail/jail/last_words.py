"""How an init goes: it tells who is left, kills them, and is in nobody's way while the kernel takes it down."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from pytest_nsjail.jail import processes
from pytest_nsjail.kernel import wire

# At the most; a test may hold a jail that has ended, and look at it later.
_LINGER_MS = 20


def tell(sock: socket.socket, body: dict[str, Any], fds: Sequence[int] = (), *, pid: int | None = None) -> None:
    """Say something to pytest; where nobody listens any more, there is nobody to go on for."""
    try:
        wire.send(sock, body, fds, pid=pid)
    except ProcessLookupError:  # who it is about has ended
        raise
    except OSError:
        os._exit(0)


def tell_left(sock: socket.socket, left: Iterable[processes.Seen]) -> None:
    """Say who is still there; from within their pid namespace, for the kernel translates the numbers of the speaker's own alone (unix(7))."""
    for process in left:
        try:
            tell(sock, {"event": "leftover", "pid": process.pid, "argv": process.argv}, pid=process.pid)
        except ProcessLookupError:
            continue


def clear(sock: socket.socket) -> None:
    """Tell who is still there, and kill them."""
    tell_left(sock, processes.seen())
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.wait4(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def leave(sock: socket.socket, body: dict[str, Any], fds: Sequence[int] = ()) -> NoReturn:
    """Say the last thing, and exit.

    To take this process down takes the kernel half a millisecond, in which nobody is to wait: it preempts nobody who runs (sched(7)), and sleeps
    until whoever was told has heard it and closed the socket, for the kernel likes to wake a listener where the speaker runs.
    """
    if os.sched_getscheduler(0) == os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    tell(sock, body, fds)
    poll = select.poll()
    poll.register(sock, 0)
    poll.poll(_LINGER_MS)
    os._exit(0)

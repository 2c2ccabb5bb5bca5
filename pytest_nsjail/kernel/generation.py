"""The probe's children, and how each says what it did: a line of JSON on standard output, which all of them share."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

from pytest_nsjail.kernel import syscall


def say(**what: object) -> None:
    """One line, in one write(2): pipe(7) keeps it whole."""
    os.write(1, json.dumps(what).encode() + b"\n")


def generation(child: Callable[[], None], parent: Callable[[int], None] = lambda pid: None) -> None:
    """Fork; the child does its part and exits; the parent does its own, and waits."""
    pid = os.fork()
    if pid == 0:
        try:
            child()
        except BaseException as error:
            say(died=f"{type(error).__name__}: {error}")
            os._exit(1)
        os._exit(0)
    parent(pid)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        say(died=f"killed by {signal.Signals(os.WTERMSIG(status)).name}")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; a change of ids clears it (PR_SET_PDEATHSIG(2const))."""
    syscall.prctl(syscall.PR_SET_PDEATHSIG, signal.SIGKILL)

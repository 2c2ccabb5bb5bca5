"""Thread pools that fixtures of higher scopes left: a fork copies a pool, and not its threads."""

from __future__ import annotations

import sys
import threading
from typing import Any


def begin_anew() -> None:
    """In a forked process: let each pool start threads when there is work, instead of waiting for those that are its parent's.

    An event loop has a pool, too (``asyncio.to_thread``), and pytest-asyncio's loops live as long as their scope.
    """
    module: Any = sys.modules.get("concurrent.futures.thread")
    for thread in list(getattr(module, "_threads_queues", ())):
        # A pool knows its threads, and nobody knows all pools but by these.
        arguments = getattr(thread, "_args", ())
        pool: Any = arguments[0]() if arguments else None
        if hasattr(pool, "_idle_semaphore"):
            pool._idle_semaphore = threading.Semaphore(0)
            pool._threads.clear()

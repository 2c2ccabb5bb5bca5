"""pytest-timeout: its clock runs where the test runs.

While a child runs, the parent has no timer; the child's has the time that was left. What the child leaves of it is for what follows in the parent.
"""

from __future__ import annotations

import importlib
import mmap
import sys
import threading
import time
import traceback
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nsjail.plugin.adaptors.nothing import Nothing

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Ending

# Room for the stacks of every thread of a child that is out of time; memory is taken as it is written.
_STACKS = 1 << 20


class Left(float):
    """The seconds that are left of a timeout, which reads as the whole."""

    whole: float

    def __new__(cls, left: float, whole: float) -> Left:
        self = super().__new__(cls, left)
        self.whole = getattr(whole, "whole", whole)
        return self

    def __str__(self) -> str:
        return str(self.whole)

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(self.whole, spec)


class Timeout(Nothing):
    """Has pytest-timeout's timer of a test in one process at a time; a plugin from the start, for it must know when timers began."""

    def __init__(self) -> None:
        self._module: Any = importlib.import_module("pytest_timeout")
        self._settings: Any = None  # of the timer that runs in this process
        self._deadline = 0.0
        self._away: pytest.Item | None = None  # whose child runs
        self._child = False
        self._left: Any = None  # the settings of the timer that ran when its child was forked
        self._stacks: mmap.mmap | None = None
        self._said = ""  # by a child that ended for its time was over

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """Of pytest-timeout, when a timer is to begin."""
        if item is self._away:
            return True
        self._settings, self._deadline = settings, time.monotonic() + settings.timeout
        if self._child and (settings.method == "thread" or threading.current_thread() is not threading.main_thread()):
            timer = threading.Timer(settings.timeout, self._expired, (settings,))
            timer.name = f"pytest_timeout {item.nodeid}"
            timer.daemon = True
            item.cancel_timeout = timer.cancel  # type: ignore[attr-defined]
            timer.start()
            return True
        return None

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> None:
        """Of pytest-timeout, when no timer shall run any more."""
        self._settings = None

    def parent_before(self, item: pytest.Item) -> None:
        self._left = self._settings
        if self._left is not None:
            item.config.hook.pytest_timeout_cancel_timer(item=item)
        self._away = item
        self._stacks = mmap.mmap(-1, _STACKS)

    def child_begins(self, item: pytest.Item) -> None:
        self._away, self._child = None, True
        self._rearm(item)

    def child_ends(self, item: pytest.Item) -> dict[str, Any] | None:
        # One that has fired runs no more, nor does one that a debugger has outlasted.
        running = self._settings is not None and time.monotonic() < self._deadline and not self._module.is_debugging()
        item.config.hook.pytest_timeout_cancel_timer(item=item)
        return {"running": running}

    def parent_after(self, item: pytest.Item, told: dict[str, Any] | None, ending: Ending) -> Collection[str]:
        self._away = None
        if self._stacks is not None:
            self._said, _, stacks = self._stacks[:].rstrip(b"\0").decode(errors="replace").partition("\n\n")
            self._stacks.close()
            self._stacks = None
            if stacks:
                item.add_report_section("call", "stacks", stacks)
        if told is None or told.get("running"):
            self._rearm(item)
        return ()

    def death(self) -> str:
        return self._said

    def _rearm(self, item: pytest.Item) -> None:
        left = self._deadline - time.monotonic()
        if self._left is not None and (self._child or left > 0):
            settings = self._left._replace(timeout=Left(max(left, 0.001), self._left.timeout))
            item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)

    def _expired(self, settings: Any) -> None:
        """In a child, in a thread of its own: leave the stacks to the parent, and end."""
        if not settings.disable_debugger_detection and self._module.is_debugging():
            return
        from posix import _exit  # not os's, which coverage may have made its own

        own, names = threading.get_ident(), {thread.ident: thread.name for thread in threading.enumerate()}
        frames = [(ident, frame) for ident, frame in sys._current_frames().items() if ident != own]
        said = [f"Timeout (>{settings.timeout}s) from pytest-timeout.\n"]
        said += [f"Stack of {names.get(ident, '<unknown>')} ({ident})\n{''.join(traceback.format_stack(frame))}" for ident, frame in frames]
        assert self._stacks is not None
        self._stacks.write("\n".join(said).encode(errors="replace")[: _STACKS - 1])
        _exit(1)

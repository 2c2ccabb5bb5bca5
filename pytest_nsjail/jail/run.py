"""One program that runs in a jail, as its init looks after it: its time, and what no control group bounds."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from pytest_nsjail.jail import processes
from pytest_nsjail.jail.command import Command
from pytest_nsjail.jail.pump import Pump

# Between two looks at what no control group bounds.
_WATCH_SECONDS = 0.005
# Between two tries to repeat what nobody reads at the moment.
_CATCH_UP_SECONDS = 0.05
# Between a look at a session and a kill its members may have had children, and those children; not for ever, though.
_ROUNDS = 100


class Run:
    """One program, until its end was told.

    :param main: whether it is the jail's main program, with whose end everybody's comes.
    :ivar timed_out: whether it ran longer than it was given.
    :ivar exceeded: the bounds that were seen reached, by name.
    """

    def __init__(self, number: int, pid: int, command: Command, pumps: list[Pump], *, main: bool) -> None:
        self.number, self.pid, self.command, self.pumps = number, pid, command, pumps
        self.timed_out = False
        self.exceeded: dict[str, str] = {}
        self._main = main
        self._began = time.monotonic()
        self._deadline = self._began + command.timeout if command.timeout else None
        self._terminated = False
        self._behind = False

    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def patience(self) -> float:
        """In how many seconds it wants to be looked after again."""
        left = float("inf") if self._deadline is None else self._deadline - time.monotonic()
        left = min(left, _WATCH_SECONDS) if self.command.watch else left
        return min(left, _CATCH_UP_SECONDS) if self._behind else left

    def look_after(self) -> bool:
        """End it where its time is over or a bound is passed.

        :return: whether it was killed for a bound.
        """
        if self.command.label:
            behind = [pump.open and pump.catch_up() for pump in self.pumps]
            self._behind = any(behind)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            if self._terminated:
                self._deadline = None
                self.kill()
            else:
                self.timed_out = True
                self.terminate(self.command.grace)
        most, memory = self.command.watch.get("processes"), self.command.watch.get("memory")
        if most is not None and processes.tasks() >= most:
            self.exceeded["processes"] = "watch"
        if memory is not None and processes.memory() > memory and processes.proportional_memory() > memory:
            self.exceeded["memory"] = "watch"
            self.kill()
            return True
        return False

    def terminate(self, grace: float) -> None:
        """SIGTERM to it now, and :meth:`kill` in ``grace`` seconds."""
        self._terminated = True
        self._deadline = time.monotonic() + grace
        os.kill(self.pid, signal.SIGTERM)
        # A stopped process takes no signal but SIGKILL and this one.
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: to everybody in the jail where it is the main program, else to its session."""
        if self._main:
            os.kill(-1, signal.SIGKILL)
        else:
            killed: set[int] = set()
            for _ in range(_ROUNDS):
                found = set(processes.session(self.pid)) - killed
                if not found:
                    break
                for pid in found:
                    # It may have ended, and its parent in the jail have reaped it, since it was seen.
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                killed |= found

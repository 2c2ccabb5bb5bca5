"""A jail that pytest forks itself into: the world of one isolated test."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from pytest_nsjail.jail import wire
from pytest_nsjail.jail.handle import Process
from pytest_nsjail.jail.status import Exited, Signaled, Status


class Ending(NamedTuple):
    """How the child of a cell ended, and what was left in it.

    :param status: how.
    :param leftovers: processes that were still alive then; they are dead by now.
    :param added: paths that it wrote outside its writable places; they are gone.
    :param modified: paths there that it changed.
    :param deleted: paths there that it removed.
    """

    status: Status
    leftovers: tuple[Process, ...]
    added: tuple[str, ...]
    modified: tuple[str, ...]
    deleted: tuple[str, ...]


class Cell:
    """A prepared jail for one forked child of this process.

    :ivar channel: this side's end of a socket between the two, for :mod:`pytest_nsjail.jail.wire`; after :meth:`fork` each side has its own.
    :ivar pid: the child, as this process numbers it; 0 before :meth:`fork` and in the child.
    """

    def __init__(self) -> None:
        self.channel, self._theirs = wire.pair()
        self.pid = 0

    def fork(self) -> bool:
        """Fork this process into the jail.

        :return: True in the child.
        :raises SetupError: where the jail refuses to be entered.
        """
        self.pid = os.fork()
        if self.pid == 0:
            self.channel.close()
            self.channel = self._theirs
            return True
        self._theirs.close()
        return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the child a signal."""
        os.kill(self.pid, number)

    def end(self) -> Ending:
        """Wait for the child's end, kill whoever it left, and see what it wrote."""
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.channel.close()
        return Ending(Exited(code) if code >= 0 else Signaled(-code), (), (), (), ())

    def close(self) -> None:
        """End it at once, where :meth:`end` was not reached."""
        self.channel.close()

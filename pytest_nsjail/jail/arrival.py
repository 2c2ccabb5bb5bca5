"""What becomes of a process of pytest's own that comes into a jail."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from socket import socket
from typing import NamedTuple

from pytest_nsjail.jail.entry import Doors, User, fork, join
from pytest_nsjail.kernel import wire


class Arrival(NamedTuple):
    """How it comes, and what it is then.

    :param direct: see :func:`pytest_nsjail.jail.entry.fork`.
    :param capabilities: see :func:`pytest_nsjail.jail.entry.join`, as for ``user``.
    :param rlimits: its bounds, by their numbers.
    :param env: variables that it gets.
    :param project: where it goes when it cannot be where its parent is.
    :param disown: called before anything else can be: what is its parent's is not its own any more.
    """

    direct: bool
    capabilities: int | None
    user: User | None
    rlimits: tuple[tuple[int, int, int], ...]
    env: dict[str, str]
    project: str
    disown: Callable[[], None]

    def fork(self, doors: Doors) -> int:
        """Fork it.

        :return: its pid; 0 in itself, which is to :meth:`settle`.
        :raises OSError: where there can be none, in its parent alone.
        """
        return fork(doors, direct=self.direct)

    def settle(self, channel: socket, doors: Doors, groups: Sequence[int], here: str) -> None:
        """Join the jail. Where that cannot be, its parent is told, and it ends.

        :param groups: descriptors of the control groups' cgroup.procs to join.
        :param here: where its parent is.
        """
        refused = ""
        try:
            # Of pytest's session and process group it would be all the same, by the number 0 (kill(2)): a signal to those reaches pytest.
            os.setsid()
            join(doors, capabilities=self.capabilities, groups=groups, user=self.user)
            self.disown()
            for number, soft, hard in self.rlimits:
                resource.setrlimit(number, (soft, hard))
            os.environ.update(self.env)
            try:
                os.chdir(here)
            except OSError:
                refused = f"go to {self.project} as uid {os.getuid()}"
                os.chdir(self.project)
        except BaseException as error:
            # Whatever it is: this process must not go on as a second pytest.
            try:
                wire.send(channel, {"refused": refused or f"enter the jail: {error}", "errno": getattr(error, "errno", None) or 0})
            finally:
                os._exit(1)

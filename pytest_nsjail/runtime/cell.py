"""A jail that pytest forks itself into: the world of one isolated test."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from socket import SOL_SOCKET
from typing import Any, NamedTuple

from pytest_nsjail.errors import SetupError
from pytest_nsjail.image.changes import Changes, NotWritten
from pytest_nsjail.image.host import HostView
from pytest_nsjail.jail.arrival import Arrival
from pytest_nsjail.jail.bounds import Bounds
from pytest_nsjail.jail.entry import Doors, User, has_ended, reap
from pytest_nsjail.jail.handle import Process
from pytest_nsjail.jail.launcher import Prepared
from pytest_nsjail.jail.plan import World
from pytest_nsjail.jail.status import Exited, OutOfMemory, Signaled, Status
from pytest_nsjail.kernel import wire
from pytest_nsjail.runtime.template import Template
from pytest_nsjail.spec.limits import Limits


class Ending(NamedTuple):
    """How the child of a cell ended, and what was left in it.

    :param status: how; None where it said its last word and was not waited for.
    :param leftovers: processes that were still alive then; they are dead by now.
    :param layers: what it wrote, by the directory it lies below: the project and, in an image, the root; that is gone but for what is read from here.
    """

    status: Status | None
    leftovers: tuple[Process, ...]
    layers: tuple[tuple[str, Changes], ...]

    @property
    def added(self) -> tuple[str, ...]:
        """The paths that it made outside its writable places, absolute."""
        return tuple(prefix + path for prefix, changes in self.layers for path in changes.added)

    @property
    def modified(self) -> tuple[str, ...]:
        """The files that it changed there."""
        return tuple(prefix + path for prefix, changes in self.layers for path in changes.modified)

    @property
    def deleted(self) -> tuple[str, ...]:
        """The paths that it removed there."""
        return tuple(prefix + path for prefix, changes in self.layers for path in changes.deleted)

    def read_bytes(self, path: str) -> bytes:
        """What it left in a file.

        :param path: one of :attr:`added` or :attr:`modified`.
        :raises NotWritten: for any other, and for what is no file.
        """
        for prefix, changes in self.layers:
            if path.startswith(prefix) and (inside := path.removeprefix(prefix)) in changes:
                return changes.read_bytes(inside)
        raise NotWritten(f"{path} was not written.")


class Cell:
    """A prepared jail for one forked child of this process.

    :param prepared: its init, opened; owned from now on.
    :param user: uid, gid and groups that the child takes; None: it stays who it is.
    :param env: variables that the child gets.
    :param project: the directory that it may write to, and whose changes are gone.
    :param disown: called in the child, before anything else can be.
    :param ahead: has the next cell prepared while this one is used.
    :ivar arrival: what becomes of the child.
    :ivar channel: this side's end of a socket between the two, for :mod:`pytest_nsjail.kernel.wire`; after :meth:`fork` each side has its own.
    :ivar pid: the child, as this process numbers it; 0 before there is one, and in the child.
    """

    def __init__(
        self, prepared: Prepared, *, world: World, user: User | None, env: Mapping[str, str], bounds: Bounds,
        limits: Limits, project: str, disown: Callable[[], None], ahead: Callable[[], None],
    ) -> None:
        self._init = prepared.sock
        self._doors: Doors | None = Doors(*prepared.doors)
        self._traces = prepared.traces
        capabilities = None if world.privileged else world.capabilities
        self.arrival = Arrival(world.privileged and world.initial, capabilities, user, bounds.rlimits, dict(env), project, disown)
        self._bounds, self._limits, self._ahead = bounds, limits, ahead
        # Whose child it is; None: this process's.
        self._template: Template | None = None
        self.channel, self._theirs = wire.pair()
        self.pid = 0
        self._pidfd = -1
        # Whether there is a child that was not reaped yet.
        self._there = False
        # Once he has said his last word: whether he left anybody or anything; None before.
        self._left: bool | None = None

    def fork(self) -> bool:
        """Fork this process into the jail; see :func:`pytest_nsjail.jail.entry.fork` on signals.

        :return: True in the child. Whether that could enter the jail is known with its first message, see :meth:`receive`.
        :raises SetupError: where there can be no child; in this process alone.
        """
        here = os.getcwd()
        with self._entered("fork into the jail") as (doors, groups):
            self.pid = self.arrival.fork(doors)
            if self.pid == 0:
                self._settle(here, doors, groups)
                return True
        self._there = True
        self._theirs.close()
        # Not before: the child does not wait for it now.
        self._ahead()
        return False

    def receive(self) -> wire.Received | None:
        """The child's next message, or None when it is gone.

        :raises SetupError: where it could not enter the jail.
        """
        said = wire.receive(self.channel)
        if said is not None and "refused" in said.body:
            raise SetupError(said.body["refused"], said.body["errno"])
        return said

    def fork_by(self, template: Template, told: dict[str, Any], given: Sequence[int]) -> None:
        """Have a template fork, of this cell's :attr:`arrival`; then see whether it :meth:`has_come`. What the child says first is for that.

        :param told: what it is told.
        :param given: descriptors that it gets.
        :raises SetupError: where the template is gone.
        """
        # The kernel tells, by its number here, who speaks.
        self.channel.setsockopt(SOL_SOCKET, wire.SO_PASSCRED, 1)
        with self._entered("have a process forked into the jail") as (doors, groups):
            template.bear(self._theirs, doors, groups, told, given)
        self._theirs.close()
        self._template = template
        self._ahead()

    def has_come(self) -> bool:
        """Wait for the first message of a template's child: whether there is one."""
        try:
            said = self.receive()
        except (SetupError, OSError, ValueError):
            said = None
        if said is None:
            return False
        self.channel.setsockopt(SOL_SOCKET, wire.SO_PASSCRED, 0)
        try:
            self._pidfd = os.pidfd_open(said.pid)
        except OSError:
            return False  # it is no more
        self.pid, self._there = said.pid, True
        return True

    @contextlib.contextmanager
    def _entered(self, step: str) -> Iterator[tuple[Doors, Sequence[int]]]:
        """What a process enters by, which nobody needs afterwards.

        :raises SetupError: for an OSError, by the name of the step.
        """
        assert self._doors is not None
        groups = self._bounds.group.doors() if self._bounds.group else []
        try:
            yield self._doors, groups
        except OSError as error:
            raise SetupError(step, error.errno) from error
        finally:
            for group in groups:
                os.close(group)
            self._close_doors()

    def _settle(self, here: str, doors: Doors, groups: Sequence[int]) -> None:
        """In the child: join the jail, and be where the parent was, with the variables and bounds of this world."""
        self.arrival.settle(self._theirs, doors, groups, here)
        self._init.close()
        self.channel.close()
        self.channel = self._theirs
        self._forget_traces()

    def disown(self) -> None:
        """In another process: leave it to this one."""
        for sock in (self.channel, self._theirs, self._init):
            sock.close()
        self._close_doors()
        self._forget_traces()

    def _status_of_child(self) -> int:
        return self._template.status(self.pid) if self._template else reap(self.pid)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the child a signal, unless it has ended."""
        if self._pidfd >= 0:
            # A template reaps it then, and its number may be another's.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)
        else:
            os.kill(self.pid, number)

    def end(self, *, expected: bool = False) -> Ending:
        """See how the child ended, kill whoever it left, and see what it wrote.

        :param expected: whether the child has said its last word, and exits by itself: its end is not waited for.
        """
        code = None
        if not expected:
            code = os.waitstatus_to_exitcode(self._status_of_child())
            self._there = False
        leftovers: list[Process] = []
        layers: list[tuple[str, Changes]] = []
        try:
            if self._left is None:
                self._look()
            while self._left and (said := wire.receive(self._init)):
                if said.body["event"] == "leftover":
                    leftovers.append(Process(said.body["pid"], said.pid, tuple(said.body["argv"])))
                elif said.body["event"] == "finished":
                    for (prefix, changed), layer in zip(said.body["changes"], said.fds, strict=True):
                        layers.append((prefix, Changes(layer, HostView(), [(path, what) for path, what in changed])))
                    break
        except OSError:
            pass  # the init was killed: all that is left to tell is how the child ended
        ending = Ending(None if code is None else self._status(code), tuple(leftovers), tuple(layers))
        self._let_go()
        return ending

    def spoken(self) -> None:
        """The child has said its last word: let its jail see what it left, while this process is busy with that word; then comes :meth:`end`."""
        with contextlib.suppress(OSError):  # as there
            self._look()

    def _look(self) -> None:
        self._left = not (self._traces and self._traces.none())
        if self._left:
            wire.send(self._init, {"do": "finish"})

    def _status(self, code: int) -> Status:
        how = Exited(code) if code >= 0 else Signaled(-code)
        counters = self._bounds.group.counters() if self._bounds.group else None
        return OutOfMemory(int(self._limits.memory or 0), how) if counters and counters.oom_kills and how != Exited(0) else how

    def reaped(self) -> bool:
        """Whether nothing is left of it in this process: a child whose end was not waited for is reaped here, or by its template."""
        if self._init.fileno() < 0 and self._there and (self._template is not None or has_ended(self.pid)):
            self._there = False
        return self._init.fileno() < 0 and not self._there

    def close(self) -> None:
        """End it at once, where :meth:`end` was not reached, and wait until it has."""
        self._let_go()
        if self._there:
            if self._template is None:
                with contextlib.suppress(ChildProcessError):  # it was, by who was interrupted then
                    reap(self.pid)
            self._there = False

    def _let_go(self) -> None:
        for sock in (self.channel, self._theirs, self._init):
            sock.close()
        self._close_doors()
        self._forget_traces()
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)
        if self._bounds.group is not None:
            self._bounds.group.remove()

    def _close_doors(self) -> None:
        # First forgotten: who is interrupted here comes again.
        doors, self._doors = self._doors, None
        if doors:
            doors.close()

    def _forget_traces(self) -> None:
        if self._traces:
            self._traces.close()
            self._traces = None

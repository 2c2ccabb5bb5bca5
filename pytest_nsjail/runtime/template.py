"""A copy of pytest, which forks the processes of tests while pytest itself does other things.

After a fork both sides copy what they write to, page by page. Beside its template pytest does so once; beside a child of its own, for every test.
"""

from __future__ import annotations

import gc
import os
import select
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from posix import _exit  # not os's: coverage may have put its own there, which saves what is pytest's
from socket import SHUT_RDWR, socket
from typing import Any, NoReturn

from pytest_nsjail.jail.arrival import Arrival
from pytest_nsjail.jail.entry import Doors, reap
from pytest_nsjail.kernel import handlers, wire

# What a process does when it is in its jail, and does not come back from: the socket to pytest, what this told, and what it gave along.
Run = Callable[[socket, dict[str, Any], Sequence[int]], NoReturn]

# After so long without anything to do a template looks who has ended, in seconds: to be told of each end would have it copy pages for that.
_IDLE = 0.5


class Template:
    """One, as pytest sees it. It knows what pytest did when it was made, and nothing that came later.

    :param arrival: of every process that it forks.
    :param run: what they do then.
    :param disown: called in the template: what is pytest's is not its own.
    :raises OSError: from fork(2).
    """

    def __init__(self, arrival: Arrival, run: Run, disown: Callable[[], None]) -> None:
        self._sock, theirs = wire.pair()
        with theirs:
            self._pid = -1
            try:
                with handlers.held():
                    self._pid = os.fork()
                if self._pid == 0:
                    self._sock.close()
                    disown()
                    _serve(theirs, arrival, run)
            except BaseException:
                if self._pid == 0:
                    _exit(1)
                self.close()
                raise

    def bear(self, channel: socket, doors: Doors, groups: Sequence[int], told: dict[str, Any], given: Sequence[int]) -> None:
        """Have a process forked into a jail. Whether there is one is known by its first message.

        :param channel: its end of a socket to this process.
        :param groups: see :meth:`pytest_nsjail.jail.arrival.Arrival.settle`.
        :param given: descriptors that it gets.
        :raises OSError: BrokenPipeError where the template is gone.
        """
        wire.send(self._sock, {"here": os.getcwd(), "groups": len(groups), "told": told}, [channel.fileno(), *doors, *groups, *given])

    def status(self, pid: int) -> int:
        """Wait for a process's end: its wait status; where the template was killed, one of a process that was killed, too."""
        try:
            wire.send(self._sock, {"wait": pid})
            said = wire.receive(self._sock)
        except OSError:
            said = None
        return int(said.body["status"]) if said else signal.SIGKILL

    def disown(self) -> None:
        """In a forked child: leave it to the parent."""
        self._sock.close()

    def close(self) -> None:
        """End it, and whoever it has forked that has not ended, and wait until all are gone."""
        # Closing is not enough while another fork holds a copy.
        self._sock.shutdown(SHUT_RDWR)
        self._sock.close()
        if self._pid > 0:
            reap(self._pid)


class _Children:
    """Those that a template has forked."""

    def __init__(self) -> None:
        self._alive: set[int] = set()
        self._statuses: dict[int, int] = {}

    def add(self, pid: int) -> None:
        """One more."""
        self._alive.add(pid)
        # Of another, of whose end nobody has asked.
        self._statuses.pop(pid, None)

    def reap(self) -> None:
        """Those that have ended."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._alive.discard(ended[0])
                self._statuses[ended[0]] = ended[1]

    def status(self, pid: int) -> int:
        """How one of them ended, when it has."""
        if pid in self._alive:
            self._alive.discard(pid)
            return reap(pid)
        return self._statuses.pop(pid, signal.SIGKILL)

    def end(self) -> None:
        """All of them."""
        for pid in self._alive:
            os.kill(pid, signal.SIGKILL)
            reap(pid)


def _serve(sock: socket, arrival: Arrival, run: Run) -> NoReturn:
    interrupt = signal.getsignal(signal.SIGINT)
    # Ctrl-C is for the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What can be done once is not done by each of them.
    arrival.disown()
    os.environ.update(arrival.env)
    arrival = arrival._replace(env={}, disown=lambda: None)
    # Nothing that is here already will ever be garbage: the collector need not touch, and so copy, the pages that it is on.
    gc.freeze()
    children = _Children()
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while True:
        while not poll.poll(_IDLE * 1000):
            # The zygote cannot end while somebody dead is left in a jail.
            children.reap()
        children.reap()
        said = wire.receive(sock)
        if said is None:
            break
        body = said.body
        if "wait" in body:
            wire.send(sock, {"status": children.status(body["wait"])})
            continue
        channel, end, last = socket(fileno=said.fds[0]), 1 + len(Doors._fields), 1 + len(Doors._fields) + body["groups"]
        doors, groups, given = Doors(*said.fds[1:end]), said.fds[end:last], said.fds[last:]
        child = -1
        try:
            child = arrival.fork(doors)
        except OSError as error:
            wire.send(channel, {"refused": "fork into the jail", "errno": error.errno})
        if child == 0:
            sock.close()
            signal.signal(signal.SIGINT, interrupt)
            arrival.settle(channel, doors, groups, body["here"])
        elif child > 0:
            children.add(child)
        for fd in (*doors, *groups):
            os.close(fd)
        if child == 0:
            run(channel, body["told"], given)
        for fd in (channel.detach(), *given):
            os.close(fd)
    children.end()
    _exit(0)

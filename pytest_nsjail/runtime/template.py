"""A copy of pytest, which forks the processes of tests while pytest itself does other things.

After a fork both sides copy what they write to, page by page. Beside its template pytest does so once; beside a child of its own, for every test.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Sequence
from socket import socket
from typing import Any, NoReturn

from pytest_nsjail.jail.arrival import Arrival
from pytest_nsjail.jail.entry import Doors, reap
from pytest_nsjail.kernel import wire

# What a process does when it is in its jail, and does not come back from: the socket to pytest, what this told, and what it gave along.
Run = Callable[[socket, dict[str, Any], Sequence[int]], NoReturn]


class Template:
    """One, as pytest sees it. It knows what pytest did when it was made, and nothing that came later.

    :param arrival: of every process that it forks.
    :param run: what they do then.
    :param disown: called in the template: what is pytest's is not its own.
    :raises OSError: from fork(2).
    """

    def __init__(self, arrival: Arrival, run: Run, disown: Callable[[], None]) -> None:
        self._sock, theirs = wire.pair()
        # Those that have ended, or are about to, and that it has still to reap.
        self._over: list[int] = []
        with theirs:
            try:
                self._pid = os.fork()
                if self._pid == 0:
                    try:
                        self._sock.close()
                        disown()
                        _serve(theirs, arrival, run)
                    finally:
                        os._exit(1)
            except OSError:
                self._sock.close()
                raise

    def bear(self, channel: socket, doors: Doors, groups: Sequence[int], told: dict[str, Any], given: Sequence[int]) -> None:
        """Have a process forked into a jail. Whether there is one is known by its first message.

        :param channel: its end of a socket to this process.
        :param groups: see :meth:`pytest_nsjail.jail.arrival.Arrival.settle`.
        :param given: descriptors that it gets.
        :raises OSError: BrokenPipeError where the template is gone.
        """
        over, self._over = self._over, []
        wire.send(self._sock, {"over": over, "here": os.getcwd(), "groups": len(groups), "told": told}, [channel.fileno(), *doors, *groups, *given])

    def has_ended(self, pid: int) -> bool:
        """Have a process reaped that is about to end: that is seen to, and need not be waited for."""
        self._over.append(pid)
        return True

    def status(self, pid: int) -> int:
        """Wait for a process's end: its wait status; where the template was killed, one of a process that was killed, too."""
        over, self._over = self._over, []
        try:
            wire.send(self._sock, {"over": over, "wait": pid})
            said = wire.receive(self._sock)
        except OSError:
            said = None
        return int(said.body["status"]) if said else signal.SIGKILL

    def disown(self) -> None:
        """In a forked child: leave it to the parent."""
        self._sock.close()

    def close(self) -> None:
        """End it, and wait until it has reaped whoever it has forked: they have ended, or hear now that nobody listens to them."""
        self._sock.close()
        reap(self._pid)


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
    children: set[int] = set()
    while (said := wire.receive(sock)) is not None:
        body = said.body
        for pid in body["over"]:
            reap(pid)
            children.discard(pid)
        if "wait" in body:
            wire.send(sock, {"status": reap(body["wait"])})
            children.discard(body["wait"])
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
    for pid in children:
        reap(pid)
    os._exit(0)

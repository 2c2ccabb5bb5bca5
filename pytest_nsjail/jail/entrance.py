"""The jail's side of an entry: an init that starts no programs, and lets a process of pytest's own in (:mod:`pytest_nsjail.jail.entry`)."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import NoReturn

from pytest_nsjail.jail import processes
from pytest_nsjail.jail.last_words import clear, leave, tell
from pytest_nsjail.jail.layer import Layer
from pytest_nsjail.jail.payload import Payload
from pytest_nsjail.jail.perform import Site
from pytest_nsjail.jail.user_namespace import user_namespace
from pytest_nsjail.kernel.idmap import IdMap
from pytest_nsjail.kernel.procfs import FIRST, number_next

# In the order in which they are told.
DOORS = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")
# How long the processes of a test may live on before they count as left.
_LEAVE_SECONDS = 0.05


class Entrance:
    """The way into one jail, for one process.

    :param site: the jail, complete.
    """

    def __init__(self, sock: socket.socket, site: Site) -> None:
        self._sock, self._site = sock, site

    def open(self, idmap: IdMap, waiting: Payload | None) -> None:
        """Tell the jail's namespaces, and a user namespace for who comes in: one that a payload was born into.

        :param waiting: a payload that was born ahead of need.
        """
        own = None
        if waiting is not None:
            own = waiting.door if waiting.idmap == idmap else None
            waiting.discard()
        try:
            own = user_namespace(idmap, self._site.proc) if own is None else own
        except OSError as error:
            tell(self._sock, {"event": "failed", "step": "a user namespace for the test", "errno": error.errno, "path": ""})
            os._exit(0)
        # Who comes in has the number that a program would have.
        number_next(self._site.sysctls, FIRST)
        doors = [*(os.open(f"{self._site.proc}/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in DOORS), own]
        tell(self._sock, {"event": "prepared", "born": False}, doors)
        for door in doors:
            os.close(door)

    def serve(self, woken: int) -> NoReturn:
        """Reap whoever loses a parent, until pytest says that who came in has ended, or is gone.

        :param woken: a descriptor that can be read when a child has ended.
        """
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(woken, select.POLLIN)
        # Once without effect, as Init does it: somebody waits for it the next time.
        processes.descended()
        self._changed()
        while True:
            for fd, _ in poll.poll():
                if fd == woken:
                    os.read(woken, 4096)
                    _reap()
                elif self._called():
                    self._finish()
                else:
                    os._exit(0)

    def _called(self) -> bool:
        """Whether pytest has said something, which can only be the one thing; or is gone."""
        try:
            return bool(self._sock.recv(1))
        except ConnectionResetError:
            return False

    def _finish(self) -> NoReturn:
        """Who came in has ended, or is about to: tell who is left and what was written."""
        until = time.monotonic() + _LEAVE_SECONDS
        # What ends with who came in may take a moment to.
        while (left := processes.descended()) and time.monotonic() < until:
            time.sleep(_LEAVE_SECONDS / 20)
            _reap()
        if left:
            clear(self._sock)
        found = self._changed()
        body = {"event": "finished", "changes": [(layer.prefix, changed) for layer, changed in found]}
        leave(self._sock, body, [layer.upper for layer, _ in found])

    def _changed(self) -> list[tuple[Layer, list[tuple[str, str]]]]:
        return [(layer, changed) for layer in self._site.layers if (changed := layer.changed())]


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def forget_streams() -> None:
    """Let go of the standard streams that were the host's: they become the jail's own null device."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)


def wake_on_children() -> int:
    """A descriptor that can be read when a child has ended."""
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return woken

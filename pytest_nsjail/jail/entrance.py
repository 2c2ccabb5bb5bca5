"""The jail's side of an entry: the zygote makes it, lets a process of pytest's own in (:mod:`pytest_nsjail.jail.entry`), and says what became of it.

No init of Python's is in such a jail: to fork one, and to copy the pages that it writes to, takes twice the time of all that is done here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

from pytest_nsjail.jail import processes
from pytest_nsjail.jail.home import Home
from pytest_nsjail.jail.last_words import tell_left
from pytest_nsjail.jail.pause import Pause
from pytest_nsjail.jail.payload import Failed
from pytest_nsjail.jail.perform import Site
from pytest_nsjail.jail.steps import Hostname, Loopback, Proc, Step, Unshare, describe
from pytest_nsjail.jail.user_namespace import user_namespace
from pytest_nsjail.kernel import syscall, wire
from pytest_nsjail.kernel.idmap import IdMap

# In the order in which they are told.
DOORS = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")
# How long the processes of a test may live on before they count as left.
_LEAVE_SECONDS = 0.05
# How often is looked in that time.
LOOK_SECONDS = _LEAVE_SECONDS / 20


class Entrance:
    """The way into one jail, for one process.

    :param sock: to pytest; owned from now on.
    :param home: the zygote's.
    :ivar waits: whether it waits for those to end that who came in has left; :meth:`look` is to be called again and again then.
    """

    def __init__(self, sock: socket.socket, home: Home) -> None:
        self._sock, self._home = sock, home
        self._site = Site()
        self._pause: Pause | None = None
        self._proc = self._pids = -1
        self._until = 0.0
        self._clearing = 0
        self.waits = False

    def fileno(self) -> int:
        """Of the socket; -1 once it is closed."""
        return self._sock.fileno()

    def open(self, steps: Sequence[Step], idmap: IdMap) -> None:
        """Make the jail, and tell its namespaces, a user namespace for who comes in, and where his traces are; or what the kernel refused."""
        doors: list[int] = []
        failure = self._make(steps, doors)
        if failure is None:
            try:
                doors.append(user_namespace(idmap, f"/proc/self/fd/{self._home.proc()}"))
            except OSError as error:
                failure = Failed("a user namespace for the test", error.errno or 0)
        if failure is None:
            layers = self._site.layers
            fds = [*doors, self._proc, *(layer.upper for layer in layers)]
            self._say({"event": "prepared", "born": False, "layers": [layer.fresh() for layer in layers]}, fds)
        else:
            self._say({"event": "failed", "step": failure.step, "errno": failure.errno})
        for door in doors:
            os.close(door)

    def _make(self, steps: Sequence[Step], doors: list[int]) -> Failed | None:
        """In the jail's mount namespace, and back.

        :param doors: to be filled, in the order of :data:`DOORS`.
        """
        step = steps[0]
        try:
            for step in steps:
                match step:
                    case Unshare():
                        self._home.leave()
                    case Proc():
                        self._home.proc()
                        proc = f"{self._site.stage}/proc"
                        pause = Pause(steps, proc)
                        if pause.failure:
                            return pause.failure
                        self._pause = pause
                        self._proc = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    case Loopback() | Hostname():
                        pass  # done by then
                    case _:
                        self._site.perform(step)
            assert self._pause is not None
            # Who may not be dumped is out of sight for a plain user's zygote, though of its own memory (ptrace(2), access mode checking). Nobody
            # in a jail gains by this moment: to be in another user namespace is enough to be refused.
            syscall.prctl(syscall.PR_SET_DUMPABLE, 1)
            try:
                for kind in DOORS:
                    # The zygote is in the mount namespace too, and the user namespace is its own.
                    whose = "thread-self" if kind in ("user", "mnt") else self._pause.pid
                    doors.append(os.open(f"{whose}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._home.proc()))
            finally:
                syscall.prctl(syscall.PR_SET_DUMPABLE, 0)
            self._pids = os.dup(doors[DOORS.index("pid")])
        except OSError as error:
            return Failed(describe(step), error.errno or 0)
        finally:
            self._home.come_back()
        return None

    def hear(self) -> None:
        """Pytest has said something, which can only be that who came in has ended, or is about to; or it is gone."""
        try:
            said = self._sock.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return  # another's, of whom this has the descriptor's number
        except ConnectionResetError:
            said = b""
        if not said:
            self.close()
            return
        self._until = time.monotonic() + _LEAVE_SECONDS
        self.waits = True
        self.look()

    def look(self) -> None:
        """Tell the end when nobody is left; who still is after a moment is told, and killed."""
        left = processes.descended(self._tree)
        if not left:
            self._conclude()
        elif time.monotonic() >= self._until:
            self.waits = False
            self._clear(left)

    @property
    def _tree(self) -> str:
        return f"/proc/self/fd/{self._proc}"

    def _clear(self, left: list[int]) -> None:
        """Have somebody tell who is left, and kill them, who is in their pid namespace."""
        syscall.setns(self._pids, syscall.CLONE_NEWPID)
        try:
            self._clearing = os.fork()
            if self._clearing == 0:
                try:
                    tell_left(self._sock, processes.seen(left, self._tree))
                    # Not by the end of PID 1, which waits until pytest has reaped who came in, and pytest waits for this.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(-1, signal.SIGKILL)
                    while processes.descended(self._tree):
                        time.sleep(0.001)
                finally:
                    os._exit(0)
        finally:
            self._home.bear_here()

    def reaped(self, pid: int) -> None:
        """A child of the zygote's has ended; is it one of these?"""
        if pid == self._clearing:
            self._clearing = 0
            if self.fileno() >= 0:
                self._conclude()
        elif self._pause is not None and pid == self._pause.pid:
            # Not before: its memory is the zygote's.
            self._pause = None
            self.close()

    def _conclude(self) -> None:
        """Nobody writes any more: tell what was written, and wait until pytest is gone, so that the jail's end is in nobody's way."""
        self.waits = False
        found = [(layer, changed) for layer in self._site.layers if (changed := layer.changed())]
        body = {"event": "finished", "changes": [(layer.prefix, changed) for layer, changed in found]}
        self._say(body, [layer.upper for layer, _ in found])

    @property
    def over(self) -> bool:
        """Whether nothing is left of it."""
        return self._pause is None and self.fileno() < 0

    def close(self) -> None:
        """End the jail, if nobody has yet."""
        if self._pause is not None:
            self._pause.kill()
        self.forget()

    def forget(self) -> None:
        """Let go of everything, here alone."""
        self.waits = False
        self._sock.close()
        self._site.close()
        for fd in (self._proc, self._pids):
            if fd >= 0:
                os.close(fd)
        self._proc = self._pids = -1

    def _say(self, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
        # Who does not listen any more has closed the socket, and that is heard.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(self._sock, body, fds)

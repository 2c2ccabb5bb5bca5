"""PID 1 of a jail that no program is started in: it holds the namespaces, and waits.

It takes next to nothing to be there: a list of system calls in the zygote's memory (:mod:`pytest_nsjail.kernel.spawn`), and no Python.
The kernel reaps for it (SIGCHLD ignored, wait(2)), and hands it no signal of the jail's (pid_namespaces(7)).
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Sequence

from pytest_nsjail.jail.payload import Failed
from pytest_nsjail.jail.perform import NAMESPACES, OPEN_PORTS, PROC_FLAGS
from pytest_nsjail.jail.steps import Hostname, Loopback, Proc, Step, Unshare, describe
from pytest_nsjail.kernel import loopback, syscall
from pytest_nsjail.kernel.spawn import Call, Child

# struct sigaction: SIG_IGN, and nothing else.
_IGNORE = struct.pack("=8q", signal.SIG_IGN, *[0] * 7)
_EVERY = 0xFFFFFFFF


class Pause:
    """Born into fresh namespaces but for the mount namespace, which is its maker's. What is to be done from within the others it does.

    :param steps: the jail's plan, of which it takes these: :class:`Unshare`, :class:`Proc`, :class:`Loopback` and :class:`Hostname`.
    :param proc: where the jail's ``/proc`` is to be mounted.
    :ivar pid: as its maker numbers it; who reaps it says so by :meth:`reaped`.
    :ivar failure: the step that it could not do, and the kernel's answer; then it is no more.
    """

    def __init__(self, steps: Sequence[Step], proc: str) -> None:
        self.failure: Failed | None = None
        done, tell = os.pipe2(os.O_CLOEXEC)
        try:
            flags = syscall.CLONE_NEWPID
            for kind in next(step.kinds for step in steps if isinstance(step, Unshare)):
                flags |= NAMESPACES[kind] & ~syscall.CLONE_NEWNS
            self._child = Child([*_duties(steps, proc), *_rest(tell)])
            self._child.bear(flags)
        except OSError as error:
            self.failure = Failed(describe(next(step for step in steps if isinstance(step, Unshare))), error.errno or 0)
        finally:
            os.close(tell)
            if self.failure:
                os.close(done)
        if not self.failure:
            ready = os.read(done, 1)
            os.close(done)
            if not ready:
                self.kill()
                os.waitpid(self.pid, 0)
                call, errno = self._child.failure() or (Call("PID 1", ""), 0)
                self.failure = Failed(call.step, errno)

    @property
    def pid(self) -> int:
        return self._child.pid

    def kill(self) -> None:
        """End it, and with it the kernel whoever is in its pid namespace."""
        os.kill(self.pid, signal.SIGKILL)


def _duties(steps: Sequence[Step], proc: str) -> list[Call]:
    """What takes a process that is in the jail's namespaces."""
    calls = []
    for step in steps:
        what = describe(step)
        match step:
            case Proc():
                # A procfs is of its mounter's own pid namespace.
                calls.append(Call(what, "mount", (b"proc", os.fsencode(proc), b"proc", PROC_FLAGS, 0)))
            case Loopback():
                # What is opened takes the lowest number that is free (open(2)).
                close = Call(what, "close", (0,))
                calls += [close, Call(what, "socket", loopback.SOCKET), Call(what, "ioctl", (0, *loopback.UP)), close]
                for name, value in OPEN_PORTS:
                    path = os.fsencode(f"{proc}/sys/net/ipv4/{name}")
                    calls += [Call(what, "openat", (0, path, os.O_WRONLY)), Call(what, "write", (0, value, len(value))), close]
            case Hostname(name):
                encoded = os.fsencode(name)
                calls.append(Call(what, "sethostname", (encoded, len(encoded))))
    return calls


def _rest(tell: int) -> list[Call]:
    calls = [
        Call("a name for PID 1", "prctl", (syscall.PR_SET_NAME, b"nsjail-init", 0, 0, 0)),
        # Without a handler no signal from within reaches it; with this one the dead are gone at once.
        Call("ignore SIGCHLD", "rt_sigaction", (signal.SIGCHLD, _IGNORE, 0, 8)),
        Call("tell that it is done", "write", (tell, b"\0", 1)),
        Call("close every descriptor", "close_range", (0, _EVERY, 0)),
        # Every signal is blocked since its birth.
        Call("wait", "ppoll", (0, 0, 0, 0)),
    ]
    if os.sched_getscheduler(0) == os.SCHED_OTHER:
        # To take a jail down takes the kernel half a millisecond, in which nobody is to wait: it preempts nobody who runs (sched(7)).
        calls.insert(0, Call("a scheduling policy", "sched_setscheduler", (0, os.SCHED_BATCH, bytes(8)), may_fail=True))
    return calls

"""A user namespace that no program is in: for who comes into a jail, and for what a mount calls its owners."""

from __future__ import annotations

import os
import signal

from pytest_nsjail.kernel import syscall
from pytest_nsjail.kernel.idmap import IdMap, write
from pytest_nsjail.kernel.spawn import Call, Child


def user_namespace(idmap: IdMap, proc: str) -> int:
    """A descriptor of a fresh one below this process's own; one is born with a child (clone(2)), and outlives it here.

    The child takes a number of the pid namespace, see :func:`pytest_nsjail.kernel.procfs.number_next`.

    :param proc: the ``/proc`` of this process's pid namespace.
    :raises OSError: from the kernel.
    """
    wait, go = os.pipe2(os.O_CLOEXEC)
    child = Child([Call("wait to be looked at", "read", (wait, bytes(bytearray(8)), 1))])
    try:
        # As in Payload.bear().
        syscall.prctl(syscall.PR_SET_DUMPABLE, 1)
        child.bear(syscall.CLONE_NEWUSER)
        write(child.pid, idmap, proc)
        return os.open(f"{proc}/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        syscall.prctl(syscall.PR_SET_DUMPABLE, 0)
        if child.pid:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
        os.close(wait)
        os.close(go)

"""How a process of pytest's own gets into a jail: it forks, and the child joins the jail's namespaces.

A pid namespace is entered by children only (setns(2)), and so there is a fork in any case. As root it is the one; a plain user has no rights over
the jail before it has joined the zygote's user namespace, which only a process without threads may: one more fork stands between. Root of a user namespace
could enter, and then not go back to a pid namespace that is not its own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from pytest_nsjail.kernel import syscall
from pytest_nsjail.kernel.keyring import forget_keys
from pytest_nsjail.kernel.privileges import keep_capabilities

_PID = struct.Struct("=i")


User = tuple[int, int, tuple[int, ...] | None]


class Doors(NamedTuple):
    """Descriptors of a jail's namespaces, in the order in which its init tells them.

    :param user: whose rights are over the others.
    :param own: of who comes in.
    """

    user: int
    pid: int
    mount: int
    network: int
    ipc: int
    uts: int
    cgroup: int
    own: int

    def close(self) -> None:
        """Close them all."""
        for fd in self:
            os.close(fd)


def fork(doors: Doors, *, direct: bool) -> int:
    """Fork; the child is in the jail's pid namespace, and is to :func:`join` the others.

    :param direct: whether this process has rights over its own pid namespace: else it would not find back.
    :return: the child, as this process numbers it; 0 in the child. It is lost where a signal's handler raises meanwhile: let them be
        :func:`pytest_nsjail.kernel.handlers.held`.
    :raises OSError: from fork(2) and setns(2), in this process alone.
    """
    return _directly(doors) if direct else _by_another(doors)


def _directly(doors: Doors) -> int:
    own = os.open("/proc/thread-self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscall.setns(doors.pid, syscall.CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            # The child's children are born into its jail as they are.
            if pid:
                syscall.setns(own, syscall.CLONE_NEWPID)
    finally:
        os.close(own)
    return pid


def _by_another(doors: Doors) -> int:
    told, tell = os.pipe2(os.O_CLOEXEC)
    # Who loses its parent in this time becomes a child of this process (PR_SET_CHILD_SUBREAPER(2const)), also from a pid namespace below.
    before, between = syscall.is_subreaper(), -1
    syscall.prctl(syscall.PR_SET_CHILD_SUBREAPER, 1)
    try:
        between = os.fork()
        if between:
            os.close(tell)
            pid = os.read(told, _PID.size)
            _, status = os.waitpid(between, 0)
    finally:
        if between:
            syscall.prctl(syscall.PR_SET_CHILD_SUBREAPER, int(before))
        os.close(told)
    if between == 0:
        return _between(doors, tell)
    if len(pid) < _PID.size:
        number = os.waitstatus_to_exitcode(status)
        raise OSError(number, f"enter the jail's namespaces: {os.strerror(number)}")
    return int(_PID.unpack(pid)[0])


def _between(doors: Doors, tell: int) -> int:
    """In a process that goes into the jail's user namespace, to have its only child there; then it is in the way."""
    try:
        if not _inside("user", doors.user):
            syscall.setns(doors.user, syscall.CLONE_NEWUSER)
        syscall.setns(doors.pid, syscall.CLONE_NEWPID)
        child = os.fork()
    except BaseException as error:
        os._exit(getattr(error, "errno", None) or 1)
    if child:
        # Pytest may be dead by now, and then there is nobody to tell; whatever happens, this process must not go on as a second one.
        try:
            os.write(tell, _PID.pack(child))
        finally:
            os._exit(0)
    os.close(tell)
    return 0


def join(doors: Doors, *, capabilities: int | None, groups: Sequence[int], user: User | None) -> None:
    """In the child: be in the jail for all the rest.

    :param capabilities: those that it keeps, of all that a user namespace gives; None: as they come, to a uid that had them.
    :param groups: descriptors of the control groups' cgroup.procs to join.
    :param user: uid, gid and supplementary groups to take (None for these where the map refuses setgroups(2)); None: it stays who it is.
    :raises OSError: from the kernel; the child must not go on then.
    """
    for group in groups:
        os.write(group, b"0")
    # The host's own network is nobody's to enter without rights over it, and need not be entered.
    network = () if _inside("net", doors.network) else (doors.network,)
    for fd in (doors.cgroup, doors.uts, doors.ipc, *network, doors.mount):
        syscall.setns(fd, 0)
    forget_keys()
    syscall.setns(doors.own, syscall.CLONE_NEWUSER)
    # The name is the test's to change, as it is outside for root; the namespace it was born into is the init's.
    syscall.unshare(syscall.CLONE_NEWUTS)
    if user is not None:
        uid, gid, extra = user
        if extra is not None:
            os.setgroups(extra)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if capabilities is not None:
        # Entering a user namespace gives every capability in it: a plain user had none, and files without permission must stay so. Root of a
        # container had some, and opens its own files by them.
        keep_capabilities(capabilities)
        # And it makes the process's own /proc files root's.
        syscall.prctl(syscall.PR_SET_DUMPABLE, 1)
    syscall.prctl(syscall.PR_SET_NO_NEW_PRIVS, 1)


def _inside(kind: str, fd: int) -> bool:
    """Whether this process is in a namespace."""
    return os.stat(f"/proc/thread-self/ns/{kind}").st_ino == os.fstat(fd).st_ino


def has_ended(pid: int) -> bool:
    """Reap a child where it has ended; who was interrupted when it was reaped may ask again."""
    try:
        return bool(os.waitpid(pid, os.WNOHANG)[0])
    except ChildProcessError:
        return True


def reap(pid: int) -> int:
    """Wait for a child's end: its wait status."""
    return os.waitpid(pid, 0)[1]

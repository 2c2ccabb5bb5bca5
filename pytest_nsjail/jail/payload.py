"""The payload: forked by the init before anybody has asked, it waits in its own user namespace for what it is to become.

The order: a session of its own, the user namespace, then the wait. With the order come the id map (which only the init may write), the
control groups, and the cgroup namespace that hides them; limits, ids, no_new_privs, the working directory, and the program.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from pytest_nsjail.jail.command import Command
from pytest_nsjail.kernel import idmap, keyring, syscall

EXECUTE = "execute the program"


class Door(NamedTuple):
    """The first payload's own namespaces, for the next one to enter: descriptors of /proc/PID/ns/user and cgroup."""

    user: int
    cgroup: int

    @classmethod
    def of(cls, pid: int) -> Door:
        """A running payload's.

        :raises OSError: where it has ended.
        """
        return cls(*(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "cgroup")))


class Failed(NamedTuple):
    """What kept a payload from becoming its program: the step, and the kernel's answer."""

    step: str
    errno: int


class Streams(NamedTuple):
    """A payload's ends of its streams, and the init's."""

    stdin: int
    stdout: int
    stderr: int
    into: int
    out: int
    err: int

    @classmethod
    def make(cls) -> Streams:
        """Three pipes, made in the jail, so that no descriptor of the host's ever gets there."""
        stdin, into = os.pipe2(os.O_CLOEXEC)
        out, stdout = os.pipe2(os.O_CLOEXEC)
        err, stderr = os.pipe2(os.O_CLOEXEC)
        return cls(stdin, stdout, stderr, into, out, err)


class Waiting:
    """A payload that waits for its order.

    :param door: the first payload's namespaces, or None for the first, which makes them.
    :ivar pid: inside the jail.
    :ivar streams: the init's ends are the caller's after :meth:`start`; the payload's are closed by it.
    """

    def __init__(self, door: Door | None) -> None:
        self.streams = Streams.make()
        # Up goes one line: that the namespace is there. Then silence, for the pipe closes on exec, or what failed.
        self._up, tell = os.pipe2(os.O_CLOEXEC)
        order, self._down = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._up)
            os.close(self._down)
            _become(self.streams, door, tell, order)
        os.close(tell)
        os.close(order)
        self._door = door
        said = os.read(self._up, 256)
        self._failed = None if said == b"\n" else _failure(said)

    def start(self, command: Command, groups: Sequence[int]) -> Failed | None:
        """Let it become a program, and see that it did.

        :param groups: descriptors of the control groups' cgroup.procs that it joins.
        :return: None, or why it did not; then it is dead, and to be reaped.
        """
        step = "join the control groups"
        try:
            if self._failed:
                return self._failed
            for group in groups:
                os.write(group, str(self.pid).encode())
            if self._door is None:
                step = "map the user namespace"
                idmap.write(self.pid, command.idmap)
            uid, gid = idmap.outside(command.idmap.uids, command.uid), idmap.outside(command.idmap.gids, command.gid)
            # Programs reopen /dev/stdout; for that the pipe has to be theirs.
            for fd in self.streams[:3]:
                os.fchown(fd, uid, gid)
            with open(self._down, "wb") as order:
                self._down = -1
                order.write(json.dumps(command.encode()).encode())
            said = os.read(self._up, 256)
            return _failure(said) if said else None
        except OSError as error:
            os.kill(self.pid, signal.SIGKILL)
            return Failed(step, error.errno or 0)
        finally:
            for fd in (*self.streams[:3], self._up, self._down):
                if fd >= 0:
                    os.close(fd)


def _failure(said: bytes) -> Failed:
    step, _, errno = said.decode(errors="replace").strip().rpartition(" ")
    return Failed(step or "start the payload", int(errno) if errno.isdigit() else 0)


def _become(streams: Streams, door: Door | None, tell: int, order: int) -> NoReturn:
    """In the child: never returns."""
    step = "start the payload"
    try:
        os.setsid()
        for fd in streams[3:]:
            os.close(fd)
        os.chdir("/")
        step = "enter the user namespace"
        if door is None:
            # The maps of a process that may not be dumped are the host's root's to write (user_namespaces(7)). Nobody else is
            # in the jail yet who could look into this one.
            syscall.prctl(syscall.PR_SET_DUMPABLE, 1)
            syscall.unshare(syscall.CLONE_NEWUSER)
        else:
            syscall.setns(door.user, syscall.CLONE_NEWUSER)
        # What one jail keeps in its session's keyring is not for the next.
        keyring.forget_keys()
        os.write(tell, b"\n")
        with open(order, "rb") as file:
            ordered: dict[str, Any] = json.loads(file.read() or b"{}")
        if not ordered:
            os._exit(0)
        command = Command.decode(ordered)
        step = "enter the cgroup namespace"
        if door is None:
            syscall.unshare(syscall.CLONE_NEWCGROUP)
        else:
            syscall.setns(door.cgroup, syscall.CLONE_NEWCGROUP)
        step = "take its standard streams"
        if command.stdin:
            os.dup2(streams.stdin, 0)
        else:
            os.dup2(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), 0)
        os.dup2(streams.stdout, 1)
        os.dup2(streams.stderr, 2)
        step = "set the limits"
        for number, soft, hard in command.rlimits:
            most = resource.getrlimit(number)[1]
            hard = hard if most == resource.RLIM_INFINITY else min(hard, most)
            resource.setrlimit(number, (min(soft, hard), hard))
        step = f"become user {command.uid}, group {command.gid}"
        if command.idmap.setgroups:
            os.setgroups(command.groups)
        os.setresgid(command.gid, command.gid, command.gid)
        os.setresuid(command.uid, command.uid, command.uid)
        syscall.prctl(syscall.PR_SET_NO_NEW_PRIVS, 1)
        step = f"enter the working directory {command.workdir}"
        os.chdir(command.workdir)
        os.umask(0o022)
        step = EXECUTE
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _execute(command)
    except OSError as error:
        os.write(tell, f"{step} {error.errno or 0}".encode())
    except BaseException as error:
        os.write(tell, f"{step}: {type(error).__name__} {error}"[:240].encode() + b" 0")
    os._exit(127)


def _execute(command: Command) -> None:
    """Execute the first of the programs that there is; of the refusals, one that found a file says more than one that found none."""
    refusal: OSError | None = None
    for program in command.programs:
        try:
            os.execve(program, command.argv, command.env)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            refusal = error if refusal is None or isinstance(error, PermissionError) else refusal
    if refusal:
        raise refusal

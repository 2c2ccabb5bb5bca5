"""The payload: from a fork of the init to the program, in the order the kernel wants."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from pytest_nsjail.jail.command import Command
from pytest_nsjail.kernel import idmap, syscall

EXECUTE = "execute the program"


class Door(NamedTuple):
    """The first payload's own namespaces, for the next one to enter: descriptors of /proc/PID/ns/user and cgroup."""

    user: int
    cgroup: int


class Started(NamedTuple):
    """A payload that is its program by now; ``pid`` is the one inside the jail."""

    pid: int
    door: Door


class Failed(NamedTuple):
    """What kept a payload from becoming its program: the step, the kernel's answer, and the pid to reap."""

    step: str
    errno: int
    pid: int


def start(command: Command, stdio: tuple[int, int, int], groups: Sequence[int], door: Door | None) -> Started | Failed:
    """Fork a payload and see it become its program.

    :param stdio: its standard input, output and error.
    :param groups: descriptors of the control groups' cgroup.procs that it joins.
    :param door: the first payload's namespaces, or None for the first.
    """
    # Up the one pipe goes a byte when there is a user namespace to map, and then the step and the errno that failed, or
    # silence: the pipe closes on exec. Down the other goes a byte each time the payload may go on.
    up, tell = os.pipe2(os.O_CLOEXEC)
    wait, down = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(up)
        os.close(down)
        _become(command, stdio, bool(groups), door, tell, wait)
    os.close(tell)
    os.close(wait)
    step = "join the control groups"
    try:
        for group in groups:
            os.write(group, str(pid).encode())
        if groups:
            os.write(down, b"g")
        if door is None and os.read(up, 1) == b"u":
            step = "map the user namespace"
            idmap.write(pid, command.idmap)
            door = Door(*(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "cgroup")))
            os.write(down, b"m")
        said = os.read(up, 256).decode()
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        return Failed(step, error.errno or 0, pid)
    finally:
        os.close(up)
        os.close(down)
    if said or door is None:
        what, _, number = said.rpartition(" ")
        return Failed(what or "start the payload", int(number or 0), pid)
    return Started(pid, door)


def _become(command: Command, stdio: tuple[int, int, int], joins: bool, door: Door | None, tell: int, wait: int) -> NoReturn:
    """In the child: never returns."""
    step = "start the payload"
    try:
        if joins:
            os.read(wait, 1)
        os.setsid()
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        step = "unshare the user and cgroup namespaces"
        if door is None:
            # The maps of a process that may not be dumped are the host's root's to write (proc_pid_uid_map(5)). Nobody else
            # is in the jail yet who could look at this one's memory.
            syscall.prctl(syscall.PR_SET_DUMPABLE, 1)
            syscall.unshare(syscall.CLONE_NEWUSER)
            syscall.unshare(syscall.CLONE_NEWCGROUP)
            os.write(tell, b"u")
            os.read(wait, 1)
        else:
            syscall.setns(door.user, syscall.CLONE_NEWUSER)
            syscall.setns(door.cgroup, syscall.CLONE_NEWCGROUP)
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
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(command.program, command.argv, command.env)
    except OSError as error:
        os.write(tell, f"{step} {error.errno or 0}".encode())
    except BaseException as error:
        os.write(tell, f"{step}: {type(error).__name__} {error} 0".encode()[:250])
    os._exit(127)

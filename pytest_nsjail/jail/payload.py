"""The payload: from a child of the init to the program, as a list of system calls in the order the kernel wants."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from pytest_nsjail.jail.command import Command
from pytest_nsjail.kernel import capability, idmap, seccomp, syscall
from pytest_nsjail.kernel.idmap import IdMap
from pytest_nsjail.kernel.keyring import JOIN_SESSION_KEYRING
from pytest_nsjail.kernel.spawn import Call, Child, prepare

EXECUTE = "execute the program"
# SD_LISTEN_FDS_START, sd_listen_fds(3)
FIRST_LISTENER = 3
_NULL = "read from the null device"
# struct sigaction of zeros, larger than any machine's: SIG_DFL, no flags, nothing blocked.
_DEFAULT_ACTION = bytes(64)


class Failed(NamedTuple):
    """What kept a payload from becoming its program: the step, and the kernel's answer."""

    step: str
    errno: int


class Payload:
    """A child of the init, on its way to become its program: :meth:`order`, :meth:`bear` and :meth:`go`, in this order.

    Where :func:`can_wait`, it may be born before anybody knows what it is to become. Nobody waits until it is its program: a wake-up at that
    moment would take the processor from it.

    Its streams are pipes made here, in the jail, so that no descriptor of the host's ever gets into its hands.

    :param door: a descriptor of the first payload's user namespace, or None for the first, which is born into its own.
    :param sysctls: a descriptor of ``/proc/sys``, through which that namespace's own bounds can be written.
    :ivar door: its own namespace, for the next payload. Kept from its birth: later it may have gone into another, which it made.
    :ivar idmap: that namespace's map, once it is born.
    :ivar pid: inside the jail; 0 before :meth:`bear`.
    :ivar into: the init's end of its standard input, or -1; ``out`` and ``err`` of its outputs. The caller's after :meth:`go`.
    :ivar up: hangs up when it is its program, or has given up.
    """

    def __init__(self, door: int | None, sysctls: int) -> None:
        self.door = door
        self.idmap: IdMap | None = None
        self._owner = 0, 0
        # What comes up there is the listener of an observed one, see kernel.seccomp. It closes when the program is executed, or when the child has
        # given up.
        self.up, self._silence = (end.detach() for end in socket.socketpair())
        self._wait, self._go = os.pipe2(os.O_CLOEXEC)
        self.out, self._stdout = os.pipe2(os.O_CLOEXEC)
        self.err, self._stderr = os.pipe2(os.O_CLOEXEC)
        self._stdin, self.into = os.pipe2(os.O_CLOEXEC)
        self._child = Child(_first_calls(self._wait, (self._stdout, self._stderr), door, sysctls))

    @property
    def pid(self) -> int:
        return self._child.pid

    def order(self, command: Command, listeners: Sequence[int] = ()) -> Failed | None:
        """Write down what it is to do.

        :param listeners: sockets that it passes on to its program, from descriptor 3 on.
        :return: why it cannot be told.
        """
        # Programs reopen /dev/stdout; for that the pipe has to be theirs.
        self._owner = idmap.outside(command.idmap.uids, command.uid), idmap.outside(command.idmap.gids, command.gid)
        if not command.stdin:
            self._close(self._stdin, self.into)
            self._stdin = self.into = -1
        try:
            observed = seccomp.calls(self._silence) if command.observe else []
            self._child.add(observed + _last_calls(command, self._stdin, listeners))
        except OSError as error:
            return self._refused("write down its system calls", error)
        return None

    def bear(self, maps: IdMap, proc: str, groups: Sequence[int] = ()) -> Failed | None:
        """Bear it, and give its user namespace a map where that is its own.

        :param proc: the ``/proc`` of its pid namespace.
        :param groups: descriptors of the control groups' cgroup.procs that it joins.
        :return: why it was not born.
        """
        step = "start the payload (clone)"
        first = self.door is None
        try:
            # The maps of a process that may not be dumped are the host's root's to write (user_namespaces(7)), and the child has our memory,
            # to which that belongs, or a copy. Nobody else is in the jail yet who could look into it.
            syscall.prctl(syscall.PR_SET_DUMPABLE, int(first))
            try:
                # In a control group memory may be over before it is its program.
                self._child.bear(syscall.CLONE_NEWUSER if first else 0, apart=bool(groups))
                step = "join the control groups"
                for group in groups:
                    os.write(group, str(self.pid).encode())
                if first:
                    step = "map the user namespace"
                    idmap.write(self.pid, maps, proc)
                    self.door = os.open(f"{proc}/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                syscall.prctl(syscall.PR_SET_DUMPABLE, 0)
        except OSError as error:
            return self._refused(step, error)
        self.idmap = maps
        return None

    def go(self) -> Failed | None:
        """Let it begin.

        :return: why it did not.
        """
        try:
            for fd in (self._stdout, self._stderr, *((self._stdin,) if self._stdin >= 0 else ())):
                os.fchown(fd, *self._owner)
            os.write(self._go, b"\0")
        except OSError as error:
            return self._refused("let the payload begin", error)
        self._close(self._wait, self._go, self._silence, self._stdin, self._stdout, self._stderr)
        self._wait = self._go = self._silence = self._stdin = self._stdout = self._stderr = -1
        return None

    def _refused(self, step: str, error: OSError) -> Failed:
        self.discard()
        return Failed(step, error.errno or 0)

    def discard(self) -> None:
        """Kill one that waits for its order, and close its streams."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self._close(self._wait, self._go, self._silence, self._stdin, self._stdout, self._stderr, self.into, self.out, self.err)
        self.close()

    def listener(self) -> int:
        """What has come up of an observed one: a descriptor, the caller's.

        :raises OSError: why nothing has: EBUSY for one that somebody observes already, no errno for one that ended before.
        """
        end = socket.socket(fileno=self.up)
        try:
            _, fds, _, _ = socket.recv_fds(end, 1, 1, socket.MSG_DONTWAIT)
        finally:
            end.detach()
        if fds:
            os.set_inheritable(fds[0], False)
            return fds[0]
        refused = -min(0, self._child.result("seccomp") or 0)
        if not refused and self._child.result("sendmsg") is not None:
            # Nobody hears of its calls, and so they would fail.
            raise RuntimeError("the listener of an observed program was lost on its way")
        raise OSError(refused, os.strerror(refused))

    def failure(self) -> Failed | None:
        """Why it did not become its program; None for one that did, or that was killed before. To be asked once it has ended."""
        failure = self._child.failure()
        return failure and Failed(failure[0].step, failure[1])

    def close(self) -> None:
        """Close what is not the caller's by then."""
        self._close(self.up)

    def _close(self, *fds: int) -> None:
        for fd in fds:
            if fd >= 0:
                os.close(fd)


def can_wait() -> bool:
    """Whether a child that was born can still be told what to do: only one that shares our memory hears it."""
    return prepare() is not None


def _first_calls(wait: int, outputs: tuple[int, int], door: int | None, sysctls: int) -> list[Call]:
    """What every payload does, whatever it becomes."""
    # Bytes of its own for the kernel to write to: those of a literal may be anybody's.
    calls = [Call("wait for its order", "read", (wait, bytes(bytearray(8)), 1)), Call("begin a session", "setsid")]
    if door is None:
        # Whoever owns a cgroup namespace can mount the control groups (cgroup_namespaces(7)). Their files are the host's root's, or whose
        # they were delegated to, and by number that is the payload: it could raise its own limits, and freeze or kill pytest.
        refuse = "refuse cgroup namespaces"
        calls += [Call(refuse, "close", (0,)), Call(refuse, "openat", (sysctls, b"user/max_cgroup_namespaces", os.O_WRONLY))]
        calls.append(Call(refuse, "write", (0, b"0", 1)))
    else:
        calls.append(Call("enter the user namespace", "setns", (door, syscall.CLONE_NEWUSER)))
    # Whoever has it can lift that again; in a namespace it is good for nothing else.
    calls.append(Call("drop CAP_SYS_RESOURCE", "prctl", (syscall.PR_CAPBSET_DROP, capability.SYS_RESOURCE, 0, 0, 0)))
    # What one jail keeps in its session's keyring is not for the next. Best effort, see kernel.keyring.
    calls.append(Call("join a keyring", "keyctl", (JOIN_SESSION_KEYRING, 0), may_fail=True))
    calls += [Call("take its standard streams", "dup3", (fd, number, 0)) for number, fd in enumerate(outputs, 1)]
    calls.append(Call("give up new privileges", "prctl", (syscall.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
    calls.append(Call("set the umask", "umask", (0o022,)))
    # The init's handler is code of Python's, and this is the init's memory: until execve(2) it would run here too, for a signal that waits.
    calls.append(Call("reset SIGCHLD", "rt_sigaction", (signal.SIGCHLD, _DEFAULT_ACTION, 0, 8)))
    calls.append(Call("unblock signals", "rt_sigprocmask", (signal.SIG_SETMASK, bytes(8), 0, 8)))
    return calls


def _last_calls(command: Command, stdin: int, listeners: Sequence[int]) -> list[Call]:
    """What depends on the program."""
    argv = tuple(os.fsencode(argument) for argument in command.argv)
    env = tuple(os.fsencode(f"{name}={value}") for name, value in command.env.items())
    if command.stdin:
        calls = [Call("take its standard input", "dup3", (stdin, 0, 0))]
    else:
        # The lowest number is free, and so what is opened next takes it (open(2)).
        calls = [Call(_NULL, "close", (0,), may_fail=True), Call(_NULL, "openat", (0, b"/dev/null", os.O_RDWR))]
    for number, soft, hard in command.rlimits:
        most = resource.getrlimit(number)[1]
        hard = hard if most == resource.RLIM_INFINITY else min(hard, most)
        calls.append(Call("set the limits", "prlimit64", (0, number, struct.pack("=2q", min(soft, hard), hard), 0)))
    who = f"become user {command.uid}, group {command.gid}"
    if command.idmap.setgroups:
        calls.append(Call(who, "setgroups", (len(command.groups), struct.pack(f"={len(command.groups)}I", *command.groups))))
    calls += [Call(who, "setresgid", (command.gid,) * 3), Call(who, "setresuid", (command.uid,) * 3)]
    calls.append(Call(f"enter the working directory {command.workdir}", "chdir", (os.fsencode(command.workdir),)))
    # The last that is done: whatever else has these numbers is not needed any more.
    calls += [Call("take the sockets it is activated by", "dup3", (fd, number, 0)) for number, fd in enumerate(listeners, FIRST_LISTENER)]
    calls += [Call(EXECUTE, "execve", (os.fsencode(program), argv, env), may_fail=True) for program in command.programs]
    return calls

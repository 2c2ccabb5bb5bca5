"""The keeper and the zygote: the two processes from which every jail of a pytest session descends.

The *keeper* is exec'd by pytest with an empty environment and no descriptor but a socket. It makes the zygote's world - a
user namespace where it is no root, a mount and a pid namespace - and then only waits: for pytest's death, upon which it
kills the zygote, and for the zygote's, upon which it removes what the kernel does not remove by itself, the control groups.

The *zygote* is PID 1 of that world. Its death is the kernel's order to kill every jail (pid_namespaces(7)), and no
mount of a jail is ever seen on the host. It forks an init for every jail, one ahead of need, and reaps them.

Both are single-threaded: unshare(2) and setns(2) of user namespaces refuse anything else, and a fork of a process with threads
is a gamble. Everything they run is imported by now: after the change of root there is no file to import from.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from typing import NoReturn

from pytest_nsjail.jail.init import Init
from pytest_nsjail.jail.steps import decode
from pytest_nsjail.kernel import cgroup, keyring, mounts, spawn, syscall, wire
from pytest_nsjail.kernel.idmap import IdMap


def main(fd: int) -> NoReturn:
    """The keeper's life.

    :param fd: its end of the socket to pytest.
    """
    sock = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    parent = os.getppid()
    pytest = os.pidfd_open(parent)
    greeting = wire.receive(sock)
    if greeting is None or os.getppid() != parent:
        os._exit(0)
    syscall.forget_arguments()
    syscall.set_process_name("nsjail-keeper")
    syscall.forget_signals()
    keyring.forget_keys()
    os.umask(0o022)
    step = ""
    try:
        if not greeting.body["privileged"]:
            step = "a user namespace (unshare(CLONE_NEWUSER))"
            syscall.unshare(syscall.CLONE_NEWUSER)
            wire.send(sock, {"event": "unshared"})
            if wire.receive(sock) is None:
                os._exit(0)
            step = "root of the user namespace (setresuid)"
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        # The maps are written, and their writer was the last who had to reach into this process.
        syscall.prctl(syscall.PR_SET_DUMPABLE, 0)
        step = "a mount namespace (unshare(CLONE_NEWNS))"
        syscall.unshare(syscall.CLONE_NEWNS)
        step = "private mounts (mount --make-rprivate /)"
        mounts.mount("none", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
        step = "a pid namespace (unshare(CLONE_NEWPID))"
        syscall.unshare(syscall.CLONE_NEWPID)
        step = "the zygote (fork)"
        zygote = os.fork()
    except OSError as error:
        wire.send(sock, {"event": "failed", "step": step, "errno": error.errno or 0})
        os._exit(1)
    if zygote == 0:
        os.close(pytest)
        _Zygote(sock).serve()
    sock.close()
    _keep(pytest, zygote)
    cgroup.remove_session(greeting.body["session"])
    os._exit(0)


def _keep(pytest: int, zygote: int) -> None:
    """Wait until the zygote is dead, and kill it when pytest is."""
    poll = select.poll()
    poll.register(pytest, select.POLLIN)
    poll.register(os.pidfd_open(zygote), select.POLLIN)
    if any(fd == pytest for fd, _ in poll.poll()):
        os.kill(zygote, signal.SIGKILL)
    os.waitpid(zygote, 0)


class _Zygote:
    """PID 1 of the session's world."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def serve(self) -> NoReturn:
        """Until pytest's end of the socket is closed."""
        syscall.prctl(syscall.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscall.set_process_name("nsjail-zygote")
        spawn.prepare()
        # The collector would touch, and so copy, every page in every child.
        gc.collect()
        gc.freeze()
        gc.disable()
        own_pids = os.open("/proc/thread-self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(woken, select.POLLIN)
        wire.send(self._sock, {"event": "ready"})
        while True:
            for fd, _ in poll.poll():
                if fd == woken:
                    os.read(woken, 4096)
                    _reap()
                    continue
                asked = wire.receive(self._sock)
                if asked is None:
                    os._exit(0)
                with socket.socket(fileno=asked.fds[0]) as theirs:
                    idmap = asked.body["idmap"]
                    init = Init(theirs, [decode(step) for step in asked.body["steps"]], IdMap.decode(idmap) if idmap else None, opened=asked.body["opened"])
                    self._prepare(init, theirs, own_pids, (woken, wake))

    def _prepare(self, init: Init, theirs: socket.socket, own_pids: int, inherited: tuple[int, int]) -> None:
        """Fork one more init, PID 1 of its own namespace, with the socket that came with the order."""
        try:
            syscall.unshare(syscall.CLONE_NEWPID)
            try:
                if os.fork() == 0:
                    signal.set_wakeup_fd(-1)
                    for fd in (*inherited, own_pids, self._sock.detach()):
                        os.close(fd)
                    init.serve()
            finally:
                # Otherwise the next child would be born into this jail.
                syscall.setns(own_pids, syscall.CLONE_NEWPID)
        except OSError as error:
            try:
                wire.send(theirs, {"event": "failed", "step": "a pid namespace for the jail (unshare(CLONE_NEWPID))", "errno": error.errno or 0})
            except BrokenPipeError:  # nobody waits for it any more
                pass


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

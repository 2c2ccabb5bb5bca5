"""The keeper and the zygote: the two processes from which every jail of a pytest session descends.

The *keeper* is exec'd by pytest with an empty environment and no descriptor but a socket. It makes the zygote's world - a
user namespace where it is no root, a mount and a pid namespace - and then only waits: for pytest's death, upon which it
kills the zygote, and for the zygote's, upon which it removes what the kernel does not remove by itself, the control groups.

The *zygote* is PID 1 of that world. Its death is the kernel's order to kill every jail (pid_namespaces(7)), and no
mount of a jail is ever seen on the host. It forks an init for every jail that programs run in, one ahead of need, and reaps them; a jail that a
process of pytest's own enters it makes itself (:mod:`pytest_nsjail.jail.entrance`).

Both are single-threaded: unshare(2) and setns(2) of user namespaces refuse anything else, and a fork of a process with threads
is a gamble. Everything they run is imported by now: after the change of root there is no file to import from.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from collections.abc import Sequence
from typing import NoReturn

from pytest_nsjail.jail.entrance import LOOK_SECONDS, Entrance
from pytest_nsjail.jail.home import Home
from pytest_nsjail.jail.init import Init
from pytest_nsjail.jail.steps import Step, decode
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
        self._home = Home()
        self._entrances: list[Entrance] = []
        self._order: tuple[list[Step], IdMap | None, bool] = [], None, False
        self._poll = select.poll()
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def serve(self) -> NoReturn:
        """Until pytest's end of the socket is closed."""
        syscall.prctl(syscall.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscall.set_process_name("nsjail-zygote")
        spawn.prepare()
        # The collector would touch, and so copy, every page in every child.
        gc.collect()
        gc.freeze()
        gc.disable()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for fd in (self._sock.fileno(), self._woken):
            self._poll.register(fd, select.POLLIN)
        wire.send(self._sock, {"event": "ready"})
        while True:
            for fd, _ in self._poll.poll(LOOK_SECONDS * 1000 if any(entrance.waits for entrance in self._entrances) else None):
                if fd == self._sock.fileno():
                    self._obey()
                elif fd == self._woken:
                    os.read(self._woken, 4096)
                    self._reap()
                elif entrance := next((one for one in self._entrances if one.fileno() == fd), None):
                    entrance.hear()
                    if entrance.fileno() < 0:
                        self._poll.unregister(fd)
            self._entrances = [entrance for entrance in self._entrances if not entrance.over]
            for entrance in self._entrances:
                if entrance.waits:
                    entrance.look()

    def _obey(self) -> None:
        asked = wire.receive(self._sock)
        if asked is None:
            os._exit(0)
        theirs = socket.socket(fileno=asked.fds[0])
        # What is not told is as before.
        steps, idmap, opened = self._order
        if asked.body:
            steps, opened = [decode(step) for step in asked.body["steps"]], asked.body["opened"]
            idmap = IdMap.decode(asked.body["idmap"]) if asked.body["idmap"] else None
            if asked.body["kept"]:
                self._order = steps, idmap, opened
        if opened and idmap:
            self._open(Entrance(theirs, self._home), steps, idmap)
        else:
            with theirs:
                self._prepare(Init(theirs, steps, idmap), theirs)

    def _open(self, entrance: Entrance, steps: Sequence[Step], idmap: IdMap) -> None:
        """Make one more jail without an init of its own."""
        self._poll.register(entrance, select.POLLIN)
        self._entrances.append(entrance)
        entrance.open(steps, idmap)

    def _prepare(self, init: Init, theirs: socket.socket) -> None:
        """Fork one more init, PID 1 of its own namespace, with the socket that came with the order."""
        try:
            syscall.unshare(syscall.CLONE_NEWPID)
            try:
                if os.fork() == 0:
                    signal.set_wakeup_fd(-1)
                    for entrance in self._entrances:
                        entrance.forget()
                    for fd in (self._woken, self._wake, *self._home.fds, self._sock.detach()):
                        os.close(fd)
                    init.serve()
            finally:
                # Otherwise the next child would be born into this jail.
                self._home.bear_here()
        except OSError as error:
            try:
                wire.send(theirs, {"event": "failed", "step": "a pid namespace for the jail (unshare(CLONE_NEWPID))", "errno": error.errno or 0})
            except BrokenPipeError:  # nobody waits for it any more
                pass

    def _reap(self) -> None:
        try:
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                for entrance in self._entrances:
                    fd = entrance.fileno()
                    entrance.reaped(pid)
                    if fd >= 0 and entrance.fileno() < 0:
                        self._poll.unregister(fd)
        except ChildProcessError:
            pass

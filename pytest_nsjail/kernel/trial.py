"""The child half of the probe: it performs the steps of making a jail one by one, and says of each what the kernel did.

It is exec'd with an empty environment, as the keeper of the jails is, and has their generations: this process stays
outside and maps ids; its child has the world's user and mount namespaces; the next is PID 1 of a pid namespace and puts
the root together; the last is the payload, in a user namespace of its own. Nothing of what they make outlives them.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from functools import partial
from typing import Any

from pytest_nsjail.kernel import idmap, syscall
from pytest_nsjail.kernel.check import Step
from pytest_nsjail.kernel.generation import die_with_parent, generation, say
from pytest_nsjail.kernel.hierarchy import own_hierarchy
from pytest_nsjail.kernel.idmap import IdMap, Range
from pytest_nsjail.kernel.loopback import loopback_up
from pytest_nsjail.kernel.mounts import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_MOVE,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    attach_mount,
    clone_mount,
    mount,
    restrict_mount,
    umount,
)

# What a jail's /dev has of the host's.
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


class Trial:
    """One attempt at a jail.

    :param directory: of the host's, on the store's file system: ``lower`` in it holds a directory with a file.
    :param privileged: whether the world needs no user namespace of its own.
    """

    def __init__(self, directory: str, *, privileged: bool) -> None:
        self._directory = directory
        self._privileged = privileged
        self._initial = privileged and idmap.in_initial_namespace()
        self._proc = ""
        self._done = {Step.USER, Step.MAP} if privileged else set()

    def run(self) -> None:
        """From the first generation to the last."""
        die_with_parent()
        for step, controller in ((Step.MEMORY, "memory"), (Step.PROCESSES, "pids")):
            self._try(step, partial(_make_group, controller))
        if self._privileged:
            generation(self._world)
            return
        self._try_ids()
        alone = IdMap((Range(0, os.geteuid(), 1),), (Range(0, os.getegid(), 1),), False)
        self._enter(Step.USER, Step.MAP, alone, "/proc", self._world)

    def _try_ids(self) -> None:
        many = idmap.rootless()
        if len(many.uids) > 1:
            self._enter(Step.USER, Step.IDS, many, "/proc", lambda: None, aloud=False)
        else:
            say(step=Step.IDS.name, errno=errno.ENOENT, detail=_absent())

    def _world(self) -> None:
        """The keeper's part, see :mod:`pytest_nsjail.jail.zygote`."""
        if not self._privileged and Step.MAP in self._done:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            die_with_parent()
        self._try(Step.MOUNT, lambda: syscall.unshare(syscall.CLONE_NEWNS))
        self._try(Step.PRIVATE, lambda: mount("none", "/", "", MS_REC | MS_PRIVATE))
        self._try(Step.PID, lambda: syscall.unshare(syscall.CLONE_NEWPID))
        generation(self._init)

    def _init(self) -> None:
        """The part of a jail's init, in the order of its plan."""
        die_with_parent()
        os.chdir(f"{self._directory}/lower")
        self._try(Step.NETWORK, lambda: syscall.unshare(syscall.CLONE_NEWNET))
        self._try(Step.LOOPBACK, loopback_up)
        self._try(Step.IPC, lambda: syscall.unshare(syscall.CLONE_NEWIPC))
        self._try(Step.UTS, _name)
        self._try(Step.TMPFS, self._make_stage)
        self._try(Step.PROC, self._make_proc)
        self._try(Step.DEVICES, self._bind_devices)
        self._try(Step.BIND, self._bind)
        self._try(Step.TERMINALS, lambda: mount("devpts", f"{self._directory}/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"))
        self._try(Step.OVERLAY, self._make_overlay)
        self._try(Step.REPLACED, self._replace)
        self._try(Step.PIVOT, self._pivot)
        world = IdMap(idmap.own("uid"), idmap.own("gid"), idmap.may_set_groups()) if Step.PROC in self._done else IdMap((), (), False)
        self._enter(Step.PAYLOAD, Step.PAYLOAD_MAP, idmap.payload(world, 0, 0), self._proc, self._payload)

    def _payload(self) -> None:
        self._try(Step.CGROUP, lambda: syscall.unshare(syscall.CLONE_NEWCGROUP))
        self._try(Step.BECOME, _become)
        self._try(Step.PRIVILEGES, lambda: syscall.prctl(syscall.PR_SET_NO_NEW_PRIVS, 1))

    def _try(self, step: Step, action: Callable[[], object], *, aloud: bool = True) -> None:
        came: dict[str, Any] = {}
        if not self._done.issuperset(step.needs):
            came = {"tried": False}
        else:
            try:
                detail = action()
                came = {"detail": detail if isinstance(detail, str) else ""}
                self._done.add(step)
            except OSError as error:
                came = {"errno": error.errno or errno.EIO, "detail": f"{error.strerror}{f': {error.filename}' if error.filename else ''}"}
        if aloud:
            say(step=step.name, **came)

    def _enter(self, user: Step, mapped: Step, ids: IdMap, proc: str, body: Callable[[], None], *, aloud: bool = True) -> None:
        """Fork a child that makes a user namespace (the step ``user``, said where ``aloud``), write its map (``mapped``), let it do the rest."""
        made, tell = os.pipe()
        wait, order = os.pipe()

        def child() -> None:
            # The parent's ends: with one of its own open this one would wait for ever, where the parent died before the next line.
            os.close(made)
            os.close(order)
            die_with_parent()
            # The maps of a process that may not be dumped are the host's root's to write (user_namespaces(7)).
            syscall.prctl(syscall.PR_SET_DUMPABLE, 1)
            self._try(user, lambda: syscall.unshare(syscall.CLONE_NEWUSER), aloud=aloud)
            os.write(tell, b"1" if user in self._done else b"0")
            if os.read(wait, 1) == b"1":
                self._done.add(mapped)
            body()

        def parent(pid: int) -> None:
            os.close(tell)
            before = set(self._done)
            if os.read(made, 1) == b"1":
                self._done.add(user)
            self._try(mapped, lambda: idmap.write(pid, ids, proc))
            os.write(order, b"1" if mapped in self._done else b"0")
            self._done = before

        generation(child, parent)
        for fd in (made, wait, order):
            os.close(fd)

    # The steps that are more than one call

    def _make_stage(self) -> None:
        mount("nsjail", self._directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
        for name in ("upper", "work", "root", "dev", "proc", "pts"):
            os.mkdir(f"{self._directory}/{name}")

    def _make_proc(self) -> None:
        self._proc = f"{self._directory}/proc"
        mount("proc", self._proc, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)

    def _bind_devices(self) -> None:
        for name in _DEVICES:
            os.mknod(f"{self._directory}/dev/{name}", 0o600 | stat.S_IFREG)
            mount(f"/dev/{name}", f"{self._directory}/dev/{name}", "", MS_BIND)

    def _bind(self) -> None:
        place = f"{self._directory}/bound"
        os.mkdir(place)
        fd, target = clone_mount("."), os.open(place, os.O_PATH | os.O_DIRECTORY)
        restrict_mount(fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
        attach_mount(fd, target)
        if os.statvfs(place).f_flag & os.ST_RDONLY == 0:
            raise OSError(errno.EPROTO, "the bind is writable all the same")
        os.close(fd)
        os.close(target)

    def _make_overlay(self) -> str:
        stage = os.open(self._directory, os.O_PATH | os.O_DIRECTORY)
        root = f"{self._directory}/root"
        # As a jail's, see pytest_nsjail.jail.perform.
        options = f"lowerdir=.,upperdir=/proc/self/fd/{stage}/upper,workdir=/proc/self/fd/{stage}/work,index=off,metacopy=off"
        mount("overlay", root, "overlay", MS_NOSUID | MS_NODEV, options + (",redirect_dir=off" if self._initial else ",userxattr"))
        os.close(stage)
        with open(f"{root}/written", "x", encoding="ascii") as file:
            file.write("this goes to the throwaway layer\n")
        return "" if self._initial else "userxattr"

    def _replace(self) -> None:
        # A directory that was removed and made anew must not show the image's files: the layer says so in an attribute.
        old = f"{self._directory}/root/old"
        os.unlink(f"{old}/file")
        os.rmdir(old)
        os.mkdir(old)

    def _pivot(self) -> None:
        root = f"{self._directory}/root"
        os.mkdir(f"{root}/proc")
        if Step.PROC in self._done:
            mount(self._proc, f"{root}/proc", "", MS_MOVE)
            self._proc = f"{root}/proc"
        os.chdir(root)
        syscall.pivot_root(".", ".")
        umount(".")
        os.chdir("/")
        self._proc = "/proc"


def _absent() -> str:
    """Why there is one id."""
    if not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        return "no newuidmap and newgidmap"
    return "no range in /etc/subuid and /etc/subgid" if idmap.gains_rights() else "newuidmap gains no rights under no_new_privs"


def _become() -> None:
    if idmap.may_set_groups():
        os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _name() -> None:
    syscall.unshare(syscall.CLONE_NEWUTS)
    syscall.sethostname("probe")


def _make_group(controller: str) -> str:
    """A group that is made and removed: what a group's files say of rights a read-only mount denies."""
    hierarchy = own_hierarchy()
    if hierarchy is None:
        raise OSError(errno.EACCES, "none is this user's to make")
    try:
        place = f"{hierarchy.directory(controller)}/pytest-nsjail-probe-{os.getpid()}"
    except KeyError:
        raise OSError(errno.ENOENT, f"no {controller} controller") from None
    os.mkdir(place)
    os.rmdir(place)
    return f"version {hierarchy.version}"

"""Performs the steps, in the jail's init. The one place where the order of mounts meets the kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from pytest_nsjail.jail.hosts import Hosts
from pytest_nsjail.jail.layer import Layer
from pytest_nsjail.jail.steps import (
    BindDevice,
    BindPath,
    Devices,
    Furnish,
    Hold,
    Hostname,
    HostRoot,
    Loopback,
    MountHosts,
    MountTmpfs,
    Overlay,
    Pivot,
    Proc,
    ProtectProc,
    ReadOnlyRoot,
    ShareIpc,
    ShareNetwork,
    Stage,
    Step,
    Terminal,
    Unshare,
    Unstage,
    Workplace,
)
from pytest_nsjail.jail.user_namespace import user_namespace
from pytest_nsjail.jail.workplace import Held, hide, place, unstage
from pytest_nsjail.kernel import syscall
from pytest_nsjail.kernel.idmap import IdMap
from pytest_nsjail.kernel.loopback import loopback_up
from pytest_nsjail.kernel.mounts import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_MOVE,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    attach_mount,
    clone_mount,
    make_inside,
    map_mount,
    mount,
    move_mount,
    release_mount,
    restrict_mount,
    umount,
)
from pytest_nsjail.kernel.procfs import FIRST, number_next

NAMESPACES = {
    "mount": syscall.CLONE_NEWNS, "network": syscall.CLONE_NEWNET, "ipc": syscall.CLONE_NEWIPC, "uts": syscall.CLONE_NEWUTS, "cgroup": syscall.CLONE_NEWCGROUP,
}
# Of a jail's /proc (mount(2)).
PROC_FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC
# The payload has no capability over its network, so that the kernel must not ask for one (ip-sysctl).
OPEN_PORTS = (("ip_unprivileged_port_start", b"0"), ("ping_group_range", b"0 0"))
# Every program expects these six; each is bound from the host, for mknod(2) is refused in a user namespace.
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"))
# Made in the layer before it lies over an image, so that a symlink of the image's in their place leads nobody anywhere (CVE-2026-47766).
_MADE = ("/dev", "/proc", "/tmp")
# What of a fresh layer no mount covers.
_WRITABLE = (".", "tmp")


class Site:
    """Where one jail is put together, and what was made there that its program did not make.

    :ivar stage: the tmpfs with ``upper``, ``work``, ``root``, ``dev`` and ``proc``.
    :ivar root: a descriptor (O_PATH) of the overlay, until the change of root.
    :ivar layers: what is written to, the root's own first.
    :ivar bounded: where a tmpfs with a declared size lies.
    :ivar proc: where the jail's own ``/proc`` is at this moment.
    :ivar hosts: the names it knows, where it is in a network of several.
    :ivar sysctls: a descriptor of the jail's own ``/proc/sys`` as it is below its protection.
    :ivar given: descriptors from elsewhere, for the steps that need them: ``sight``, of the mount namespace that binds are taken from, where it is not the one
        that this was forked in; ``network``, of a test's; ``ipc`` and ``shm``, of another jail's.
    :ivar moved: whether the jail is in namespaces now in which its init was not when it was prepared.
    """

    def __init__(self) -> None:
        self.stage = ""
        self.root = -1
        self.staged = -1
        self.layers: list[Layer] = []
        self.sysctls = -1
        self.proc = ""
        self.hosts = Hosts()
        self.bounded: list[str] = []
        self.given: dict[str, int] = {}
        self.moved = False
        self._tmpfs = 0
        self._held = Held()

    def perform(self, step: Step) -> None:
        """Do one step.

        :raises OSError: what the kernel said.
        """
        match step:
            case Unshare(kinds):
                flags = 0
                for kind in kinds:
                    flags |= NAMESPACES[kind]
                syscall.unshare(flags)
            case Stage(directory):
                mount("nsjail", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
                self.stage = directory
                for name in ("upper", "root", "dev", "proc", *(f"upper{path}" for path in _MADE)):
                    os.mkdir(f"{directory}/{name}")
                os.chmod(f"{directory}/upper/tmp", 0o1777)
                self.staged = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            case Proc():
                self.proc = f"{self.stage}/proc"
                mount("proc", self.proc, "proc", PROC_FLAGS)
                self.sysctls = os.open(f"{self.proc}/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            case ProtectProc(names):
                # With them the init's own, the oom_score_adj above all, which are the uid's too.
                for name in (*names, "1"):
                    _protect(f"{self.stage}/proc/{name}")
            case Devices():
                _make_devices(f"{self.stage}/dev")
            case Loopback():
                loopback_up()
                _open_ports(f"{self.stage}/proc/sys/net/ipv4")
            case Overlay(lower, userxattr):
                self._overlay(lower, userxattr)
            case Hold():
                self._held.take(self.stage, Workplace(*step))
            case HostRoot():
                hide(self.stage, self.staged, step)
                self.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            case Workplace():
                place(self.root, self.staged, self._held, step, self.layers)
            case Unstage():
                unstage(self.staged)
            case ShareNetwork():
                # The host's own is nobody's to enter without rights over it.
                if os.fstat(self.given["network"]).st_ino != os.stat(f"{self.proc}/self/ns/net").st_ino:
                    syscall.setns(self.given["network"], syscall.CLONE_NEWNET)
                    self.moved = True
            case ShareIpc():
                syscall.setns(self.given["ipc"], syscall.CLONE_NEWIPC)
                self.moved = True
                umount(f"{self.stage}/dev/shm")
                shm = os.open(f"{self.stage}/dev/shm", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                attach_mount(self.given["shm"], shm, path="/dev/shm")
                os.close(shm)
            case Furnish():
                for name in ("dev", "proc"):
                    mount(f"{self.stage}/{name}", f"{self.stage}/root/{name}", "", MS_MOVE)
                self.proc = f"{self.stage}/root/proc"
            case BindPath(source, target, writable, identity, ids):
                with self._in_sight():
                    found = os.stat(source)
                    if (found.st_dev, found.st_ino) != tuple(identity):
                        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), source)
                    fd = clone_mount(source)
                restrict_mount(fd, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (0 if writable else MOUNT_ATTR_RDONLY), path=source)
                if ids is not None:
                    users = user_namespace(IdMap.decode(ids), self.proc)
                    # A program has the number that it would have without.
                    number_next(self.sysctls, FIRST)
                    map_mount(fd, users, path=source)
                    os.close(users)
                self._onto(target, directory=stat.S_ISDIR(found.st_mode), attached=fd)
            case MountTmpfs(target, size, mode):
                self._tmpfs += 1
                made_at = f"{self.stage}/tmpfs{self._tmpfs}"
                os.mkdir(made_at)
                mount("tmpfs", made_at, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode:o}" + (f",size={size}" if size else ""))
                self._onto(target, directory=True, moved=made_at)
                if size:
                    self.bounded.append(target)
            case MountHosts(target):
                fd = clone_mount(f"{self.stage}/{self.hosts.make(self.staged)}")
                restrict_mount(fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, path=target)
                self._onto(target, directory=False, attached=fd)
            case BindDevice(path):
                fd = _device(path)
                self._onto(path, directory=False, attached=fd)
            case Terminal(path):
                try:
                    terminal = _device(path)
                except OSError:
                    return  # it was closed since, and pytest goes on without
                where = os.open(f"{self.stage}/dev/tty", os.O_PATH | os.O_CLOEXEC)
                attach_mount(terminal, where, path=path)
                for fd in (terminal, where):
                    os.close(fd)
            case ReadOnlyRoot():
                root = os.open(f"{self.stage}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                restrict_mount(root, MOUNT_ATTR_RDONLY, path="/", recursive=False)
                os.close(root)
            case Pivot():
                self._pivot()
            case Hostname(name):
                syscall.sethostname(name)

    def _overlay(self, lower: str, userxattr: bool) -> None:
        image = os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        layer = Layer(self.staged, "upper", image, made=_MADE, writable=_WRITABLE)
        self.layers.append(layer)
        layer.mount(f"{self.stage}/root", MS_NOSUID | MS_NODEV, userxattr=userxattr)
        self.root = os.open(f"{self.stage}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    @contextlib.contextmanager
    def _in_sight(self) -> Iterator[None]:
        """Where binds are taken from. A mount that is taken hold of there may be put in place here (move_mount(2))."""
        if "sight" not in self.given:
            yield
            return
        own = os.open(f"{self.proc}/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        syscall.setns(self.given["sight"], syscall.CLONE_NEWNS)
        try:
            yield
        finally:
            syscall.setns(own, syscall.CLONE_NEWNS)
            os.close(own)

    def close(self) -> None:
        """Let go of everything, however far it came."""
        for fd in (self.staged, self.root, self.sysctls):
            if fd >= 0:
                os.close(fd)
        self.staged = self.root = self.sysctls = -1
        self._held.close()
        while self.layers:
            self.layers.pop().close()

    def release_given(self) -> None:
        """There is no more step that needs what came from elsewhere."""
        while self.given:
            os.close(self.given.popitem()[1])

    def _make(self, target: str, *, directory: bool) -> int:
        fd, made = make_inside(self.root, target, directory=directory)
        self.layers[0].made += made
        return fd

    def _onto(self, target: str, *, directory: bool, attached: int = -1, moved: str = "") -> None:
        """Put a detached mount, or the one at ``moved``, on a target inside the root."""
        try:
            place = self._make(target, directory=directory)
            try:
                if moved:
                    move_mount(moved, place, path=target)
                else:
                    attach_mount(attached, place, path=target)
            finally:
                os.close(place)
        finally:
            if attached >= 0:
                os.close(attached)

    def _pivot(self) -> None:
        self.layers[0].begin()
        os.chdir(f"{self.stage}/root")
        syscall.pivot_root(".", ".")
        # The old root lies on the new one now; only detached does it go while it is in use (pivot_root(2), "pivot_root(".", ".")").
        umount(".")
        os.chdir("/")
        for fd in (self.root, self.staged):
            os.close(fd)
        self.root = self.staged = -1
        self.proc = "/proc"


def _make_devices(directory: str) -> None:
    # In a tmpfs that was just made no path leads astray, so that plain mount(2) will do: one call each.
    mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755")
    for name in _DEVICES:
        os.mknod(f"{directory}/{name}", 0o600 | stat.S_IFREG)
        mount(f"/dev/{name}", f"{directory}/{name}", "", MS_BIND)
    # Read-only mounts: a device takes what is written to it all the same, but its mode and owner, which are the host's, stay. Where the
    # jail's root is the host's by number, nothing else keeps it from a chmod of /dev/null.
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    restrict_mount(fd, MOUNT_ATTR_RDONLY, path=directory)
    release_mount(fd, MOUNT_ATTR_RDONLY, path=directory)
    os.close(fd)
    for name, target in _LINKS:
        os.symlink(target, f"{directory}/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"{directory}/{name}")
    mount("devpts", f"{directory}/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    mount("tmpfs", f"{directory}/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def _device(path: str) -> int:
    """A device node as a detached mount; what is no device is refused (CVE-2025-31133: a link in its place)."""
    kind = os.lstat(path).st_mode
    if not (stat.S_ISCHR(kind) or stat.S_ISBLK(kind)):
        raise OSError(19, "is no device node", path)
    fd = clone_mount(path)
    restrict_mount(fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, path=path)
    return fd


def _protect(path: str) -> None:
    mount(path, path, "", MS_BIND | MS_REC)
    mount("", path, "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _open_ports(sysctls: str) -> None:
    for name, value in OPEN_PORTS:
        fd = os.open(f"{sysctls}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, value)
        os.close(fd)

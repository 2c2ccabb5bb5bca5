"""Performs the steps, in the jail's init. The one place where the order of mounts meets the kernel."""

from __future__ import annotations

import errno
import os
import stat

from pytest_nsjail.jail.host_root import host_root
from pytest_nsjail.jail.steps import (
    BindDevice,
    BindPath,
    Devices,
    Furnish,
    Hostname,
    HostRoot,
    Loopback,
    MountTmpfs,
    Overlay,
    Pivot,
    Proc,
    ProtectProc,
    ReadOnlyRoot,
    Stage,
    Step,
    Unshare,
)
from pytest_nsjail.kernel import syscall
from pytest_nsjail.kernel.layer_scan import scan, stamps
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
    mount,
    move_mount,
    release_mount,
    restrict_mount,
    umount,
)

_NAMESPACES = {
    "mount": syscall.CLONE_NEWNS, "network": syscall.CLONE_NEWNET, "ipc": syscall.CLONE_NEWIPC, "uts": syscall.CLONE_NEWUTS, "cgroup": syscall.CLONE_NEWCGROUP,
}
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
    :ivar made: paths inside the root that are mount points of the jail's own.
    :ivar bounded: where a tmpfs with a declared size lies.
    :ivar upper: a descriptor of the throwaway layer.
    :ivar lower: a descriptor of the image; before there is one, of the layer itself.
    :ivar proc: where the jail's own ``/proc`` is at this moment.
    :ivar sysctls: a descriptor of the jail's own ``/proc/sys`` as it is below its protection.
    """

    def __init__(self) -> None:
        self.stage = ""
        self.root = -1
        self.upper = -1
        self.lower = -1
        self.sysctls = -1
        self.proc = ""
        self.made = list(_MADE)
        self.bounded: list[str] = []
        self._stamps: list[tuple[int, int] | None] = []

    def changed(self) -> list[tuple[str, str]]:
        """What is in the layer that its program has put there, see :func:`pytest_nsjail.kernel.layer_scan.scan`.

        :raises OSError: where a directory cannot be read.
        """
        if self._stamps and stamps(self.upper, _WRITABLE[: len(self._stamps)]) == self._stamps:
            return []
        return scan(self.upper, self.lower, self.made)

    def perform(self, step: Step) -> None:
        """Do one step.

        :raises OSError: what the kernel said.
        """
        match step:
            case Unshare(kinds):
                flags = 0
                for kind in kinds:
                    flags |= _NAMESPACES[kind]
                syscall.unshare(flags)
            case Stage(directory):
                mount("nsjail", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
                self.stage = directory
                for name in ("upper", "work", "root", "dev", "proc", *(f"upper{path}" for path in _MADE)):
                    os.mkdir(f"{directory}/{name}")
                os.chmod(f"{directory}/upper/tmp", 0o1777)
                self.upper = self.lower = os.open(f"{directory}/upper", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            case Proc():
                self.proc = f"{self.stage}/proc"
                mount("proc", self.proc, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
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
            case HostRoot():
                layer = host_root(self.stage, step)
                self.proc = "/proc"
                if layer:
                    self.upper, self.lower, self.made = layer
                    self._stamps = [] if self.made else stamps(self.upper, (".",))
            case Furnish():
                for name in ("dev", "proc"):
                    mount(f"{self.stage}/{name}", f"{self.stage}/root/{name}", "", MS_MOVE)
                self.proc = f"{self.stage}/root/proc"
            case BindPath(source, target, writable, identity):
                found = os.stat(source)
                if (found.st_dev, found.st_ino) != tuple(identity):
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), source)
                fd = clone_mount(source)
                restrict_mount(fd, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (0 if writable else MOUNT_ATTR_RDONLY), path=source)
                self._onto(target, directory=stat.S_ISDIR(found.st_mode), attached=fd)
            case MountTmpfs(target, size, mode):
                place = f"{self.stage}/tmpfs{len(self.made)}-{os.urandom(4).hex()}"
                os.mkdir(place)
                mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode:o}" + (f",size={size}" if size else ""))
                self._onto(target, directory=True, moved=place)
                if size:
                    self.bounded.append(target)
            case BindDevice(path):
                fd = _device(path)
                self._onto(path, directory=False, attached=fd)
            case ReadOnlyRoot():
                root = os.open(f"{self.stage}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                restrict_mount(root, MOUNT_ATTR_RDONLY, path="/", recursive=False)
                os.close(root)
            case Pivot():
                self._pivot()
            case Hostname(name):
                syscall.sethostname(name)

    def _overlay(self, lower: str, userxattr: bool) -> None:
        # Relative, so that no ':' or ',' of the host's path meets the option parser: the image by the working directory.
        os.chdir(lower)
        self.lower = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        image = os.stat(".")
        os.chmod(f"{self.stage}/upper", stat.S_IMODE(image.st_mode))
        # A time long gone: whatever is written gives them another, however coarse the clock of the file system is.
        for name in _WRITABLE:
            os.utime(f"{self.stage}/upper/{name}", ns=(image.st_mtime_ns, image.st_mtime_ns))
        # The work directory's name holds no user's letters either: the stage is reached through a descriptor.
        stage = os.open(self.stage, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        options = f"lowerdir=.,upperdir=/proc/self/fd/{stage}/upper,workdir=/proc/self/fd/{stage}/work,index=off,metacopy=off"
        try:
            # User xattrs hold the layer's whiteouts where trusted ones are out of reach (Linux 5.11).
            mount("overlay", f"{self.stage}/root", "overlay", MS_NOSUID | MS_NODEV, options + (",userxattr" if userxattr else ",redirect_dir=off"))
        finally:
            os.close(stage)
        self.root = os.open(f"{self.stage}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _make(self, target: str, *, directory: bool) -> int:
        fd, made = make_inside(self.root, target, directory=directory)
        self.made += made
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
        if self.made == [*_MADE]:
            self._stamps = stamps(self.upper, _WRITABLE)
        os.close(self.root)
        os.chdir(f"{self.stage}/root")
        syscall.pivot_root(".", ".")
        # The old root lies on the new one now; only detached does it go while it is in use (pivot_root(2), "pivot_root(".", ".")").
        umount(".")
        os.chdir("/")
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
    """The payload has no capability over its network, so that the kernel must not ask for one (ip-sysctl)."""
    for name, value in (("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 0")):
        fd = os.open(f"{sysctls}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, value.encode())
        os.close(fd)

"""What this host says of itself: read once, a value from then on, so that advice can be tested without being there."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from pytest_nsjail.kernel import capability, idmap
from pytest_nsjail.kernel.hierarchy import own_hierarchy

_Fact = TypeVar("_Fact")


class Facts(NamedTuple):
    """Everything that advice depends on. Each default is a plain user's on a host that forbids nothing.

    :param release: the kernel's, as ``uname -r`` gives it.
    :param uid: this user's number.
    :param user: this user's name, or number where it has none.
    :param privileged: whether this process has CAP_SYS_ADMIN.
    :param initial: whether its user namespace is the one the kernel booted with.
    :param apparmor_restricts: ``kernel.apparmor_restrict_unprivileged_userns`` (Ubuntu 23.10 and later).
    :param userns_clone: ``kernel.unprivileged_userns_clone`` (Debian, Arch), None where there is none.
    :param limits: ``user.max_*_namespaces`` of the kinds a jail has.
    :param label: what the security module calls this process, as ``/proc/self/attr/current`` gives it.
    :param filtered: whether a seccomp filter is on this process.
    :param container: ``docker``, ``podman``, ``kubernetes``, another's own name, or nothing.
    :param ci: ``github``, ``gitlab`` or nothing.
    :param system: ``gvisor``, ``wsl1``, ``wsl2`` or nothing.
    :param chroot: whether this process's root is not its mount namespace's.
    :param rootfs: whether the root is the kernel's first file system, which cannot be pivoted away from.
    :param masked: what of ``/proc`` is mounted over.
    :param hidden: whether ``/proc`` hides other users' processes (``hidepid``).
    :param newuidmap: whether newuidmap(1) and newgidmap(1) are in the PATH.
    :param subordinate: whether /etc/subuid and /etc/subgid have a range for this user.
    :param gains: whether newuidmap, which is set-user-ID, gains any right: under no_new_privs it does not.
    :param cgroup: the version of the control groups this process can make groups in, None where it cannot.
    :param read_only: whether every mount of control groups is read-only.
    :param systemd: whether systemd runs this host, and can delegate a group.
    :param overlay: whether the kernel has loaded overlayfs; where it has not, it may still do so when asked.
    :param python: the interpreter, symlinks followed.
    """

    release: str = "6.18.0"
    uid: int = 1000
    user: str = "somebody"
    privileged: bool = False
    initial: bool = True
    apparmor_restricts: bool = False
    userns_clone: int | None = None
    limits: tuple[tuple[str, int], ...] = ()
    label: str = ""
    filtered: bool = False
    container: str = ""
    ci: str = ""
    system: str = ""
    chroot: bool = False
    rootfs: bool = False
    masked: tuple[str, ...] = ()
    hidden: bool = False
    newuidmap: bool = True
    subordinate: bool = True
    gains: bool = True
    cgroup: int | None = None
    read_only: bool = False
    systemd: bool = True
    overlay: bool = True
    python: str = "/usr/bin/python3"

    @property
    def kernel(self) -> tuple[int, int]:
        """The kernel's version, as it compares."""
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)


def facts() -> Facts:
    """Gather them, from /proc and the environment; what cannot be read is not known, and never an error."""
    status = dict(line.split(":", 1) for line in _read("/proc/self/status").splitlines() if ":" in line)
    mounts = tuple(_mounts())
    release = os.uname().release
    clone = _read("/proc/sys/kernel/unprivileged_userns_clone").strip()
    groups = _tried(own_hierarchy)
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return Facts(
        release=release,
        uid=os.geteuid(),
        user=user,
        privileged=bool(_tried(lambda: capability.has(capability.SYS_ADMIN))),
        initial=bool(_tried(idmap.in_initial_namespace)),
        apparmor_restricts=_read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1",
        userns_clone=int(clone) if clone.isdigit() else None,
        limits=tuple(_limits()),
        label=_read("/proc/self/attr/current").strip().rstrip("\0"),
        filtered=status.get("Seccomp", "").strip() == "2",
        container=_container(),
        ci="github" if os.environ.get("GITHUB_ACTIONS") == "true" else "gitlab" if os.environ.get("GITLAB_CI") == "true" else "",
        system=_system(release),
        chroot=_chroot(mounts),
        rootfs=[kind for path, kind, _ in mounts if path == "/"][-1:] == ["rootfs"],
        masked=tuple(sorted({path for path, _, _ in mounts if path.startswith("/proc/") and path != "/proc/sys/fs/binfmt_misc"})),
        hidden=any(path == "/proc" and kind == "proc" and re.search(r"\bhidepid=(?!0\b|off\b)", options) for path, kind, options in mounts),
        newuidmap=bool(shutil.which("newuidmap") and shutil.which("newgidmap")),
        subordinate=all(_has_range(file, user) for file in ("/etc/subuid", "/etc/subgid")),
        gains=status.get("NoNewPrivs", "").strip() != "1",
        cgroup=groups.version if groups else None,
        read_only=_groups_read_only(),
        systemd=os.path.isdir("/run/systemd/system"),  # sd_booted(3)
        overlay="\toverlay\n" in _read("/proc/filesystems"),
        python=os.path.realpath(sys.executable),
    )


def _limits() -> Iterator[tuple[str, int]]:
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
        said = _read(f"/proc/sys/user/max_{kind}_namespaces").strip()
        if said.isdigit():
            yield kind, int(said)


def _container() -> str:
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    if os.path.exists("/.dockerenv"):
        return "docker"
    if os.path.exists("/run/.containerenv"):
        return "podman"
    return os.environ.get("container", "")  # noqa: SIM112 - systemd's Container Interface spells it so


def _system(release: str) -> str:
    if "gvisor" in _read("/proc/version").lower() or "gvisor" in release.lower():
        return "gvisor"
    # The first WSL translates system calls and calls itself Microsoft; the second is a Linux kernel, and writes it small.
    if release.endswith("-Microsoft"):
        return "wsl1"
    return "wsl2" if "microsoft" in release.lower() else ""


def _chroot(mounts: tuple[tuple[str, str, str], ...]) -> bool:
    # Mounts are named as seen from the process's root: in a chroot that is no mount point none is called "/".
    if mounts and not any(path == "/" for path, _, _ in mounts):
        return True
    try:
        # In another mount namespace than PID 1's its root says nothing about this one.
        return os.path.samefile("/proc/self/ns/mnt", "/proc/1/ns/mnt") and not os.path.samefile("/", "/proc/1/root")
    except OSError:
        return False


def _mounts() -> Iterator[tuple[str, str, str]]:
    """Where, what, and with which options: proc_pid_mountinfo(5)."""
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        yield before.split(" ")[4].replace("\\040", " "), kind, options


def _groups_read_only() -> bool:
    lines = [line.partition(" - ") for line in _read("/proc/self/mountinfo").splitlines()]
    modes = [before.split(" ")[5].split(",")[0] for before, _, after in lines if after.split(" ")[0] in ("cgroup", "cgroup2")]
    return bool(modes) and set(modes) == {"ro"}


def _has_range(file: str, user: str) -> bool:
    return any(line.split(":")[0] in (user, str(os.geteuid())) for line in _read(file).splitlines())


def _tried(fact: Callable[[], _Fact]) -> _Fact | None:
    # Without a /proc there is no telling.
    try:
        return fact()
    except OSError:
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""

"""Where the zygote is at home: what it needs to find back there from a jail that it has made."""

from __future__ import annotations

import os

from pytest_nsjail.kernel import syscall
from pytest_nsjail.kernel.mounts import mount, umount


class Home:
    """Its mount namespace with its root, and its pid namespace with a ``/proc``."""

    def __init__(self) -> None:
        self._mounts, self._pids = (os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("mnt", "pid"))
        self._root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._proc = -1

    @property
    def fds(self) -> list[int]:
        """All that is open for it."""
        return [fd for fd in (self._mounts, self._pids, self._root, self._proc) if fd >= 0]

    def proc(self) -> int:
        """A descriptor of a ``/proc`` that is mounted nowhere, in which processes have the numbers that this one knows them by.

        :raises OSError: where the kernel mounts none.
        """
        if self._proc < 0:
            mount("proc", "/proc", "proc")
            self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            umount("/proc")
        return self._proc

    def leave(self) -> None:
        """Into a fresh mount namespace.

        :raises OSError: from unshare(2).
        """
        syscall.unshare(syscall.CLONE_NEWNS)

    def come_back(self) -> None:
        """Back into this mount namespace. The kernel takes its root for this process's (setns(2)), which it need not be: in a chroot(2) it is not."""
        syscall.setns(self._mounts, syscall.CLONE_NEWNS)
        if not os.path.samestat(os.stat("/"), os.fstat(self._root)):
            os.fchdir(self._root)
            os.chroot(".")

    def bear_here(self) -> None:
        """Children are born into this pid namespace again."""
        syscall.setns(self._pids, syscall.CLONE_NEWPID)

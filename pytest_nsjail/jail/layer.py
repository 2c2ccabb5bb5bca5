"""A throwaway layer over a directory: what is written there goes to memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from pytest_nsjail.jail.traces import Fresh
from pytest_nsjail.kernel.layer_scan import scan, stamps
from pytest_nsjail.kernel.mounts import mount


class Layer:
    """One overlay of a jail.

    :param staged: a descriptor of the stage, in which the layer's directory is made unless it is there.
    :param name: of the layer's directory in the stage.
    :param lower: a descriptor of what lies below; owned from now on.
    :param prefix: where the overlay lies inside the root; empty for the root itself.
    :param made: paths below the prefix that are the jail's own doing.
    :param writable: the directories of the fresh layer that no mount will cover.
    :ivar upper: a descriptor of the layer's directory.
    """

    def __init__(self, staged: int, name: str, lower: int, *, prefix: str = "", made: Sequence[str] = (), writable: Sequence[str] = (".",)) -> None:
        self._staged, self._name, self._lower, self.prefix = staged, name, lower, prefix
        self.made = list(made)
        self._known = list(made)
        self._writable = writable
        self._stamps: list[tuple[int, int] | None] = []
        for directory in (name, f"{name}.work"):
            try:
                os.mkdir(directory, dir_fd=staged)
            except FileExistsError:
                pass
        self.upper = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=staged)

    def mount(self, target: str, flags: int, *, userxattr: bool) -> None:
        """Lay it over what lies below, at ``target``.

        :param userxattr: whether user xattrs hold the layer's whiteouts, where trusted ones are out of reach (Linux 5.11).
        :raises OSError: from mount(2).
        """
        below = os.fstat(self._lower)
        os.chmod(self._name, stat.S_IMODE(below.st_mode), dir_fd=self._staged)
        try:
            os.chown(self._name, below.st_uid, below.st_gid, dir_fd=self._staged)
        except OSError:
            pass  # somebody's who is nobody in this user namespace; who may write there is told by the mode
        # A time long gone: whatever is written gives them another, however coarse the clock of the file system is.
        for directory in self._writable:
            os.utime(f"{self._name}/{directory}", ns=(below.st_mtime_ns, below.st_mtime_ns), dir_fd=self._staged)
        # By descriptors, so that no ':' or ',' of the host's paths meets the option parser.
        stage = f"/proc/self/fd/{self._staged}/{self._name}"
        options = f"lowerdir=/proc/self/fd/{self._lower},upperdir={stage},workdir={stage}.work,index=off,metacopy=off"
        mount("overlay", target, "overlay", flags, options + (",userxattr" if userxattr else ",redirect_dir=off"))

    def close(self) -> None:
        """Let go of it."""
        os.close(self.upper)
        os.close(self._lower)

    def begin(self) -> None:
        """From now on it is the program's: what is in it by now is not among the changes."""
        if self.made == self._known:
            self._stamps = stamps(self.upper, self._writable)

    def fresh(self) -> Fresh:
        """What it has, before anything is written to it."""
        return Fresh(tuple(self._writable), tuple(self._stamps))

    def changed(self) -> list[tuple[str, str]]:
        """What its program has put there, by paths below the prefix, see :func:`pytest_nsjail.kernel.layer_scan.scan`.

        :raises OSError: where a directory cannot be read.
        """
        if self._stamps and stamps(self.upper, self._writable) == self._stamps:
            return []
        return scan(self.upper, self._lower, self.made)

"""What a process of pytest's own needs in the jail that it is forked into: its interpreter, its project, its home."""

from __future__ import annotations

import os
import stat

from pytest_nsjail.jail.layer import Layer
from pytest_nsjail.jail.steps import HostRoot, Workplace
from pytest_nsjail.kernel.mounts import (
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_MOVE,
    MS_PRIVATE,
    MS_UNBINDABLE,
    attach_mount,
    clone_mount,
    make_inside,
    mount,
    release_mount,
    restrict_mount,
    umount,
)

# What the jail itself has mounted by then, below its stage: it stays writable.
_OWN = (".", "proc", "dev", "dev/pts", "dev/shm")


class Held:
    """What is still in sight after the host's files are hidden, or gone.

    :ivar shown: detached mounts, by their paths.
    :ivar project: a descriptor of the project, or -1.
    """

    def __init__(self) -> None:
        self.shown: dict[str, int] = {}
        self.project = -1

    def take(self, stage: str, step: Workplace) -> None:
        """Take hold of what the step will put in place.

        :raises OSError: what the kernel said.
        """
        # Else a copy of the stage would be shown along with its surroundings; an umount(2) of each waits some milliseconds (RCU).
        mount("none", stage, "", MS_UNBINDABLE)
        for path, writable in step.shown:
            self.shown[path] = clone_mount(path)
            if not writable:
                restrict_mount(self.shown[path], MOUNT_ATTR_RDONLY, path=path)
        # No overlay has its layer on an unbindable mount.
        mount("none", stage, "", MS_PRIVATE)
        if step.project:
            self.project = os.open(step.project, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of what nobody has taken."""
        while self.shown:
            os.close(self.shown.popitem()[1])
        if self.project >= 0:
            os.close(self.project)
            self.project = -1


def hide(stage: str, staged: int, step: HostRoot) -> None:
    """Make the host's files read-only, and some of them out of sight.

    :raises OSError: what the kernel said.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    restrict_mount(root, MOUNT_ATTR_RDONLY, path="/")
    os.close(root)
    for name in _OWN:
        fd = os.open(f"{stage}/{name}", os.O_PATH | os.O_CLOEXEC)
        release_mount(fd, MOUNT_ATTR_RDONLY, path=name)
        os.close(fd)
    # Not /proc yet, through which this process finds its descriptors: it is none of the jail's own.
    mount(f"{stage}/dev", "/dev", "", MS_MOVE)
    for number, (path, mode) in enumerate(step.hidden):
        # Of the one file system that is there: a new one for each costs three times as much.
        empty = f"empty{number}"
        os.mkdir(empty, dir_fd=staged)
        os.chmod(empty, mode, dir_fd=staged)
        mount(f"/proc/self/fd/{staged}/{empty}", path, "", MS_BIND)


def place(root: int, staged: int, held: Held, step: Workplace, layers: list[Layer]) -> None:
    """Put in place what was held.

    :param root: a descriptor of the root.
    :param layers: what is written to so far; the layer over the project joins it, where there is one.
    :raises OSError: what the kernel said.
    """
    under, layer = list(layers), None
    all_made = []
    # An outer one before an inner one.
    for path in sorted([*held.shown, *([step.project] if step.project else [])], key=lambda path: path.count("/")):
        fd = held.shown.get(path, -1)
        target, made = make_inside(root, path, directory=fd < 0 or stat.S_ISDIR(os.fstat(fd).st_mode))
        try:
            if fd < 0:
                layer = Layer(staged, "project", held.project, prefix=path)
                held.project = -1
                layers.append(layer)
                layer.mount(f"/proc/self/fd/{target}", 0, userxattr=step.userxattr)
            else:
                attach_mount(fd, target, path=path)
        finally:
            os.close(target)
        if layer and path != layer.prefix:
            layer.made += [one.removeprefix(layer.prefix) for one in made if one.startswith(f"{layer.prefix}/")]
        all_made += made
    held.close()
    for path, mode in step.fresh:
        target, made = make_inside(root, path, directory=True, mode=mode)
        try:
            os.chown(f"/proc/self/fd/{target}", step.uid, step.gid)
            # It may have been made on the way to another.
            os.chmod(f"/proc/self/fd/{target}", mode)
        finally:
            os.close(target)
        all_made += made
    if layer:
        layer.begin()
    for one in under:
        one.made += all_made


def unstage(staged: int) -> None:
    """The jail's ``/proc`` in its place, and the stage out of sight.

    :raises OSError: what the kernel said.
    """
    mount(f"/proc/self/fd/{staged}/proc", "/proc", "", MS_MOVE)
    # By no path: one of the host's may be hidden by now, and there is none through a /proc that this process is not in.
    os.fchdir(staged)
    umount(".")
    os.chdir("/")

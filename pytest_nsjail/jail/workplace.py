"""What a process of pytest's own needs in the jail that it is forked into: its interpreter, its project, its home."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

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


class Held(NamedTuple):
    """What is still in sight after the host's files are hidden, or gone.

    :param shown: detached mounts, by their paths.
    :param project: a descriptor of the project, or -1.
    """

    shown: list[tuple[str, int]]
    project: int


def hold(stage: str, step: Workplace) -> Held:
    """Take hold of what the step will put in place.

    :raises OSError: what the kernel said.
    """
    shown = []
    # Else a copy of the stage would be shown along with its surroundings; an umount(2) of each waits some milliseconds (RCU).
    mount("none", stage, "", MS_UNBINDABLE)
    for path, writable in step.shown:
        fd = clone_mount(path)
        if not writable:
            restrict_mount(fd, MOUNT_ATTR_RDONLY, path=path)
        shown.append((path, fd))
    # No overlay has its layer on an unbindable mount.
    mount("none", stage, "", MS_PRIVATE)
    return Held(shown, os.open(step.project, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if step.project else -1)


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
    for name in ("proc", "dev"):
        mount(f"{stage}/{name}", f"/{name}", "", MS_MOVE)
    for number, (path, mode) in enumerate(step.hidden):
        # Of the one file system that is there: a new one for each costs three times as much.
        empty = f"empty{number}"
        os.mkdir(empty, dir_fd=staged)
        os.chmod(empty, mode, dir_fd=staged)
        mount(f"/proc/self/fd/{staged}/{empty}", path, "", MS_BIND)


def place(root: int, staged: int, held: Held, step: Workplace) -> tuple[list[str], Layer | None]:
    """Put in place what was held.

    :param root: a descriptor of the root.
    :return: the paths that were made for it outside the project, and the layer over the project, where there is one.
    :raises OSError: what the kernel said.
    """
    layer = None
    all_made = []
    project = [(step.project, -1)] if step.project else []
    # An outer one before an inner one.
    for path, fd in sorted([*held.shown, *project], key=lambda one: one[0].count("/")):
        target, made = make_inside(root, path, directory=fd < 0 or stat.S_ISDIR(os.fstat(fd).st_mode))
        if fd < 0:
            layer = Layer(staged, "project", held.project, prefix=path)
            layer.mount(f"/proc/self/fd/{target}", 0, userxattr=step.userxattr)
        else:
            attach_mount(fd, target, path=path)
            os.close(fd)
        os.close(target)
        if layer and path != layer.prefix:
            layer.made += [one.removeprefix(layer.prefix) for one in made if one.startswith(f"{layer.prefix}/")]
        all_made += made
    for path, mode in step.fresh:
        target, made = make_inside(root, path, directory=True, mode=mode)
        os.chown(f"/proc/self/fd/{target}", step.uid, step.gid)
        # It may have been made on the way to another.
        os.chmod(f"/proc/self/fd/{target}", mode)
        os.close(target)
        all_made += made
    if layer:
        layer.begin()
    return all_made, layer


def unstage(staged: int) -> None:
    """The stage out of sight.

    :raises OSError: what the kernel said.
    """
    umount(f"/proc/self/fd/{staged}")

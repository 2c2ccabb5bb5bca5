"""The host's own files as a jail's root: nothing is copied, and nothing of it can be written."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from pytest_nsjail.jail.steps import HostRoot
from pytest_nsjail.kernel.mounts import (
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_MOVE,
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


class Layer(NamedTuple):
    """The throwaway layer over the project.

    :param upper: a descriptor of the layer; ``lower`` of the project.
    :param made: paths below the project that are mount points of the jail's own.
    """

    upper: int
    lower: int
    made: list[str]


def host_root(stage: str, step: HostRoot) -> Layer | None:
    """Turn this mount namespace into the step's world; the stage is gone then.

    :return: the layer over the project, where there is one.
    :raises OSError: what the kernel said.
    """
    # What stays in sight is held before anything is hidden, and before all becomes read-only.
    kept = [(path, _kept(path, writable)) for path, writable in step.shown]
    if step.project:
        os.chdir(step.project)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    restrict_mount(root, MOUNT_ATTR_RDONLY, path="/")
    for name in _OWN:
        _release(f"{stage}/{name}")
    # By descriptor from here on: the stage itself may lie in what is hidden.
    staged = os.open(stage, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in ("proc", "dev"):
        mount(f"{stage}/{name}", f"/{name}", "", MS_MOVE)
    for number, (path, mode) in enumerate(step.hidden):
        # Of the one file system that is there: a new one for each costs three times as much.
        empty = f"empty{number}"
        os.mkdir(empty, dir_fd=staged)
        os.chmod(empty, mode, dir_fd=staged)
        mount(f"/proc/self/fd/{staged}/{empty}", path, "", MS_BIND)
    layer = None
    for path, fd in sorted([*kept, *([(step.project, -1)] if step.project else [])], key=lambda one: one[0].count("/")):
        if fd < 0:
            layer = _copy_on_write(staged, step)
            continue
        place, made = make_inside(root, path, directory=stat.S_ISDIR(os.fstat(fd).st_mode))
        attach_mount(fd, place, path=path)
        os.close(place)
        os.close(fd)
        if layer:
            layer.made.extend(one[len(step.project):] for one in made if one.startswith(f"{step.project}/"))
    for path, mode in step.fresh:
        os.close(make_inside(root, path, directory=True, mode=mode)[0])
        os.chown(path, step.uid, step.gid)
    umount(f"/proc/self/fd/{staged}")
    os.close(staged)
    # What is shown all the same may have brought a copy of it along.
    while os.path.ismount(stage):
        umount(stage)
    os.close(root)
    os.chdir("/")
    return layer


def _kept(path: str, writable: bool) -> int:
    fd = clone_mount(path)
    if not writable:
        restrict_mount(fd, MOUNT_ATTR_RDONLY, path=path)
    return fd


def _release(path: str) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    release_mount(fd, MOUNT_ATTR_RDONLY, path=path)
    os.close(fd)


def _copy_on_write(staged: int, step: HostRoot) -> Layer:
    """An overlay over the project, which is the working directory by now."""
    project = os.stat(".")
    lower = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in ("changes", "changes.work"):
        os.mkdir(name, dir_fd=staged)
    os.chmod("changes", stat.S_IMODE(project.st_mode), dir_fd=staged)
    try:
        os.chown("changes", project.st_uid, project.st_gid, dir_fd=staged)
    except OSError:
        pass  # somebody's who is nobody in this user namespace; who may write there is told by the project's mode
    os.utime("changes", ns=(project.st_mtime_ns, project.st_mtime_ns), dir_fd=staged)
    upper = os.open("changes", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=staged)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.close(make_inside(root, step.project, directory=True)[0])
    os.close(root)
    stage = f"/proc/self/fd/{staged}"
    options = f"lowerdir=.,upperdir={stage}/changes,workdir={stage}/changes.work,index=off,metacopy=off"
    mount("overlay", step.project, "overlay", 0, options + (",userxattr" if step.userxattr else ",redirect_dir=off"))
    return Layer(upper, lower, [])

"""Mounts: the file-descriptor based calls of Linux 5.2 to 5.12, and the paths inside a root."""

from __future__ import annotations

import ctypes
import os

from pytest_nsjail.kernel.syscall import SYS_OPENAT2, libc, number_or_raise, syscall

# include/uapi/linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_UNBINDABLE, MS_PRIVATE = 1 << 5, 1 << 12, 1 << 13, 1 << 14, 1 << 17, 1 << 18
MNT_DETACH = 2
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _AT_RECURSIVE, _AT_EMPTY_PATH, _AT_FDCWD = 1, 0x8000, 0x1000, -100
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
_MOUNT_ATTR_IDMAP = 1 << 20

# include/uapi/linux/openat2.h
_RESOLVE_IN_ROOT = 16

_mount = libc("mount", ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_umount2 = libc("umount2", ctypes.c_char_p, ctypes.c_int)


class _Attributes(ctypes.Structure):
    _fields_ = [("attr_set", ctypes.c_uint64), ("attr_clr", ctypes.c_uint64), ("propagation", ctypes.c_uint64), ("userns_fd", ctypes.c_uint64)]


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a new file system (or change one's propagation), see mount(2)."""
    number_or_raise(_mount(os.fsencode(source), os.fsencode(target), os.fsencode(kind), flags, os.fsencode(options) or None), "mount", target)


def mount_points() -> list[str]:
    """Where something is mounted in this process's mount namespace, in the order of proc_pid_mountinfo(5)."""
    with open("/proc/thread-self/mountinfo", "rb") as lines:
        # Blanks and backslashes are written as octal numbers.
        return [os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1")) for line in lines]


def umount(target: str) -> None:
    """Detach a mount with all below it, at once for lookups and for good when nobody uses it, see umount2(2)."""
    number_or_raise(_umount2(os.fsencode(target), MNT_DETACH), "umount2", target)


def clone_mount(source: str) -> int:
    """What is at ``source``, with every mount below it, as a detached mount: its descriptor (open_tree(2), Linux 5.2).

    A bind mount that nothing can see yet; it goes when the descriptor is closed.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
    return syscall("open_tree", _SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags, path=source)


def restrict_mount(fd: int, attributes: int, *, path: str = "", recursive: bool = True) -> None:
    """Set MOUNT_ATTR_* on a mount, and on all below it: mount_setattr(2), Linux 5.12.

    mount(2) with MS_BIND|MS_RDONLY in one call is read-write, and its remount never reaches the mounts below.
    """
    _set_attributes(fd, _Attributes(attr_set=attributes), path, recursive=recursive)


def release_mount(fd: int, attributes: int, *, path: str = "") -> None:
    """Clear MOUNT_ATTR_* of one mount, and of none below it."""
    _set_attributes(fd, _Attributes(attr_clr=attributes), path, recursive=False)


def map_mount(fd: int, users: int, *, path: str = "") -> None:
    """Show the files of a detached mount, but not of those below it, under the ids of a user namespace: mount_setattr(2), "ID-mapped mounts".

    What the disk has as somebody's by the inside of the map is, through the mount, the outside's; what that one makes is stored as the inside's.

    :param users: a descriptor of the user namespace.
    :raises OSError: EINVAL for a file system that knows no such thing.
    """
    _set_attributes(fd, _Attributes(attr_set=_MOUNT_ATTR_IDMAP, userns_fd=users), path, recursive=False)


def _set_attributes(fd: int, wanted: _Attributes, path: str, *, recursive: bool) -> None:
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    syscall("mount_setattr", _SYS_MOUNT_SETATTR, fd, b"", flags, ctypes.byref(wanted), ctypes.sizeof(wanted), path=path)


def attach_mount(fd: int, target: int, *, path: str = "") -> None:
    """Put a detached mount on the directory or file that ``target`` (O_PATH) is: move_mount(2), Linux 5.2."""
    syscall("move_mount", _SYS_MOVE_MOUNT, fd, b"", target, b"", _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH, path=path)


def move_mount(source: str, target: int, *, path: str = "") -> None:
    """Move the mount at ``source`` to where ``target`` (O_PATH) is."""
    syscall("move_mount", _SYS_MOVE_MOUNT, _AT_FDCWD, os.fsencode(source), target, b"", _MOVE_MOUNT_T_EMPTY_PATH, path=source)


def openat2(directory: int, path: str, flags: int) -> int:
    """Open a path with the directory as the root, so that ``..`` and absolute symlinks stay inside: openat2(2), Linux 5.6."""
    how = _How(flags=flags | os.O_CLOEXEC, resolve=_RESOLVE_IN_ROOT)
    return syscall("openat2", SYS_OPENAT2, directory, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how), path=path)


def make_inside(root: int, path: str, *, directory: bool, mode: int = 0o755) -> tuple[int, list[str]]:
    """Open (O_PATH) the directory or file at ``path`` inside ``root``, making what is missing of it.

    Symlinks are followed inside the root, a dangling one is an error: nothing is made through it. Nor is it through a ``..``.

    :return: the descriptor, and the paths (physical, inside the root) that were made.
    :raises OSError: from the kernel; EISDIR or ENOTDIR where the kinds differ.
    """
    names = [name for name in path.split("/") if name]
    # The longest part of the path that is there.
    depth = len(names)
    where = -1
    while where < 0:
        try:
            where = openat2(root, "/".join(names[:depth]) or ".", os.O_PATH)
        except FileNotFoundError:
            if depth == 0:
                raise
            depth -= 1
    made: list[str] = []
    try:
        if depth < len(names):
            # The kernel names the root of a namespace "/", any other without a slash at its end.
            parent = os.readlink(f"/proc/self/fd/{where}")[len(os.readlink(f"/proc/self/fd/{root}").rstrip("/")) :].rstrip("/")
        for place, name in enumerate(names[depth:], depth + 1):
            last = place == len(names)
            if last and not directory:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=where))
            else:
                os.mkdir(name, mode if last else 0o755, dir_fd=where)
            # What was just made is no symlink, and one that was put in its place since leads nowhere.
            found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=where)
            os.close(where)
            where = found
            parent = f"{parent}/{name}"
            made.append(parent)
    except BaseException:
        os.close(where)
        raise
    return where, made

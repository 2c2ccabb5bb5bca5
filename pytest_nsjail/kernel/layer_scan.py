"""What a program wrote, read from the upper directory of its overlay.

Imports nothing but os and stat: it also runs in a process that has nothing else. The rules are those of the kernel's
Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories". Redirected directories and metadata-only copies are not
among them: a mount with ``userxattr`` has neither.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# user.* below a mount with userxattr, trusted.* below the others.
_WHITEOUT = ("user.overlay.whiteout", "trusted.overlay.whiteout")
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# path_resolution(7): no system call takes a longer path, the final NUL byte included.
_PATH_MAX = 4096


def descend(root: int, path: str, flags: int = os.O_PATH) -> int:
    """A new descriptor of a directory below the directory ``root``: component by component, following no symlink.

    :param path: normal, relative to the root; a leading slash means nothing.
    :param flags: how the directory itself is opened; its parents only need search permission.
    :raises OSError: ENOENT, or ENOTDIR where a component is a symlink or a file.
    """
    here = os.open(".", (os.O_PATH if path.strip("/") else flags) | _DIRECTORY, dir_fd=root)
    parts = [part for part in path.split("/") if part]
    for number, part in enumerate(parts, 1):
        try:
            below = os.open(part, (flags if number == len(parts) else os.O_PATH) | _DIRECTORY, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


def lstat(name: str, directory: int | None) -> os.stat_result | None:
    """One name of a directory, or None where nothing is."""
    if directory is None:
        return None
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_whiteout(name: str, status: os.stat_result, directory: int) -> bool:
    """Whether a name of an upper directory says that the lower's is gone: device 0:0, or an empty file with an attribute."""
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False  # gone meanwhile
    except PermissionError:
        return False  # the kernel's own whiteouts in an upper directory are devices; an empty file nobody may read is the program's
    try:
        return any(_attribute(file, name) is not None for name in _WHITEOUT)
    finally:
        os.close(file)


def is_opaque(directory: int) -> bool:
    """Whether an upper directory hides the lower's of the same path.

    :param directory: opened for reading; fgetxattr(2) refuses an O_PATH descriptor.
    """
    return any(_attribute(directory, name) == b"y" for name in _OPAQUE)


def stamps(upper: int, directories: Collection[str]) -> list[tuple[int, int] | None]:
    """When these directories of a layer changed last: where they are all that it has, whatever is written to it changes one of them."""
    found = (lstat(path, upper) for path in directories)
    return [status and (status.st_mtime_ns, status.st_ctime_ns) for status in found]


def scan(upper: int, lower: int | str, ignore: Collection[str]) -> list[tuple[str, str]]:
    """Every path that differs from the lower directory, sorted, with ``added``, ``modified`` or ``deleted``.

    A directory is named when it was added or deleted (then with all that is below it), or when it took the place of something else; not
    because of what changed below it. Below a path of PATH_MAX bytes nothing is named: no call could take the name.

    :param upper: a descriptor of the overlay's upper directory.
    :param lower: its lower directory, a descriptor or a path.
    :param ignore: what the jail itself made, as mount points: not named, though what is in it is.
    :raises OSError: where a directory cannot be read.
    """
    # Whoever is alive in the jail goes on changing it: what vanishes while it is looked at is gone, or something else by now.
    found: dict[str, str] = {}
    below = os.open(".", os.O_PATH | _DIRECTORY, dir_fd=lower) if isinstance(lower, int) else os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        todo = [("", True, False)]
        while todo:
            path, merged, hidden = todo.pop()
            todo += _directory(upper, below, path, merged, hidden, found, ignore)
    finally:
        os.close(below)
    return sorted(found.items())


def _directory(
    upper: int, lower: int, path: str, merged: bool, hidden: bool, found: dict[str, str], ignore: Collection[str],
) -> list[tuple[str, bool, bool]]:
    """Record one directory of the upper; what is left to do: its directories (path, is one in the lower too, is the lower's hidden)."""
    todo = []
    try:
        new = descend(upper, path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    old = None
    try:
        old = descend(lower, path, os.O_RDONLY) if merged else None
        hidden = hidden or is_opaque(new)
        names = set(os.listdir(new))
        for name in names:
            child, status, was = f"{path}/{name}", lstat(name, new), lstat(name, old)
            if status is None:
                continue
            was_directory = was is not None and stat.S_ISDIR(was.st_mode)
            if is_whiteout(name, status, new):
                if was:
                    found[child] = "deleted"
            elif stat.S_ISDIR(status.st_mode):
                if not was_directory and (was or child not in ignore):
                    found[child] = "modified" if was else "added"
                if len(os.fsencode(child)) < _PATH_MAX:
                    todo.append((child, was_directory, hidden))
                continue
            elif was or child not in ignore or not stat.S_ISREG(status.st_mode) or status.st_size:
                found[child] = "modified" if was else "added"
            if was_directory and old is not None:
                found.update(dict.fromkeys(_everything(old, name, child), "deleted"))
        if hidden and old is not None:
            for name in set(os.listdir(old)) - names:
                found[f"{path}/{name}"] = "deleted"
                found.update(dict.fromkeys(_everything(old, name, f"{path}/{name}"), "deleted"))
    finally:
        os.close(new)
        if old is not None:
            os.close(old)
    return todo


def _everything(directory: int, name: str, path: str) -> Iterator[str]:
    """Every path below one name of a lower directory; nothing where that is no directory."""
    todo = [name]
    while todo:
        here = todo.pop()
        try:
            opened = descend(directory, here, os.O_RDONLY)
        except NotADirectoryError:
            continue
        try:
            for below in os.listdir(opened):
                yield f"{path}{here[len(name):]}/{below}"
                todo.append(f"{here}/{below}")
        finally:
            os.close(opened)


def _attribute(file: int, name: str) -> bytes | None:
    try:
        return os.getxattr(file, name)
    except OSError:  # ENODATA, or a file system without attributes
        return None

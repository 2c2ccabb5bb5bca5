"""From a declaration to a command: everything about it looked up in the jail's own root, before anything is made."""

from __future__ import annotations

import os
import posixpath
import stat

from pytest_nsjail.errors import ResolveError, SpecError
from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.image.empty import EmptyView
from pytest_nsjail.image.host import HostView
from pytest_nsjail.image.mounted import MountedView
from pytest_nsjail.jail.plan import Source
from pytest_nsjail.resolve import lookup
from pytest_nsjail.resolve.start import explain
from pytest_nsjail.resolve.walk import Walker
from pytest_nsjail.spec.jail import JailSpec
from pytest_nsjail.spec.mount import Bind

# The jail's init reads and writes here too.
_OWN = ("/proc", "/dev", "/dev/pts", *(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")))


def check_sources(spec: JailSpec) -> dict[str, Source]:
    """See that what the host is to give is there.

    :return: what each bind gives, by the path it names.
    :raises SpecError: for a bind or a device whose source is not.
    """
    found = {}
    for mount in spec.mounts:
        if isinstance(mount, Bind):
            source = _stat(mount, str(mount.source))
            found[str(mount.source)] = Source((source.st_dev, source.st_ino), (source.st_uid, source.st_gid))
    for device in spec.devices:
        mode = _stat(device, str(device.path)).st_mode
        if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
            raise SpecError(repr(device), f"{str(device.path)!r} is no device", "Give files and directories by Bind(source, target).")
    return found


def _stat(declaration: object, path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        problem = f"{path!r} cannot be had on this host: {os.strerror(error.errno or 0)}"
        raise SpecError(repr(declaration), problem, "Name a path that 'ls -l' shows.") from None


def root_view(spec: JailSpec, rootfs: FileView) -> FileView:
    """The root that the program will see: the image, and what is mounted in it.

    :raises SpecError: for a mount of a file on a directory, or the other way round, for one on what the jail itself stands on, and for one on what
        an earlier bind's source does not have.
    """
    view = rootfs
    binds: dict[str, tuple[FileView, str]] = {}
    for mount in spec.mounts:
        target = _physical(view, str(mount.target))
        if target in _OWN or target.startswith("/proc/"):
            raise SpecError(repr(mount), f"the target is the jail's own {target}", "Mount it elsewhere; a device is given by devices=['/dev/fuse'].")
        seen: tuple[FileView, str] = (HostView(), os.path.realpath(mount.source)) if isinstance(mount, Bind) else (EmptyView(), "/")
        there, given = view.lstat(target), seen[0].lstat(seen[1])
        if there and given and (there.kind is Kind.DIRECTORY) != (given.kind is Kind.DIRECTORY):
            problem = f"the target is a {there.kind.value} in the image, and what is mounted a {given.kind.value}"
            raise SpecError(repr(mount), problem, "Mount a directory on a directory and a file on a file.")
        around = max((other for other in binds if target.startswith(f"{other.rstrip('/')}/")), key=len, default=None)
        if there is None and around is not None and isinstance(binds[around][0], HostView):
            # Made for the mount, it would be made on the host, and stay.
            problem = f"the target is in the bind on {around}, and not there"
            made = posixpath.join(binds[around][1], posixpath.relpath(target, around))
            what = "directory" if given is None or given.kind is Kind.DIRECTORY else "file"
            raise SpecError(repr(mount), problem, f"Make the {what} {made!r} first.")
        # What was mounted below it before is out of sight.
        binds = {other: one for other, one in binds.items() if not other.startswith(f"{target.rstrip('/')}/")} | {target: seen}
        view = MountedView(rootfs, binds)
    return view


def _physical(view: FileView, path: str) -> str:
    """A path with the symlinks of its existing part followed, as mount(2) does."""
    walker = Walker(view)
    head, rest = path, ""
    while head != "/":
        walk = walker.walk(head)
        if walk.stat is not None:
            return posixpath.join(walk.final, rest) if rest else walk.final
        head, name = posixpath.split(head)
        rest = posixpath.join(name, rest) if rest else name
    return path


def programs(argv0: str, env: dict[str, str]) -> tuple[str, ...]:
    """Every path that execvp(3) would try for ``argv0``; without a PATH of the program's own, the usual one."""
    return (argv0,) if "/" in argv0 else tuple(lookup.candidates(argv0, env.get("PATH", lookup.DEFAULT_PATH)))


def check_program(spec: JailSpec, view: FileView) -> None:
    """See that the program and its working directory are there at all.

    :raises ResolveError: where one is not; it names what would bring it.
    """
    workdir = spec.directory()
    walk = Walker(view).walk(workdir)
    if (walk.stat is None or walk.stat.kind is not Kind.DIRECTORY) and workdir not in ("/dev", "/proc", "/tmp", "/dev/shm"):
        raise ResolveError(f"workdir={workdir!r}: {'nothing is there' if walk.stat is None else 'it is no directory'}", f"Declare Directory({workdir!r}).")
    argv0, path = spec.command()[0], spec.environment().get("PATH", lookup.DEFAULT_PATH)
    wanted = argv0 if argv0.startswith("/") or "/" not in argv0 else posixpath.normpath(posixpath.join(workdir, argv0))
    found = lookup.find(wanted, path, view)
    if found is None or Walker(view).walk(found).stat is None:
        error = explain(wanted, view, path=path, errno=2)
        what = "the closure of its own path" if spec.image is None else f"the image {spec.image.name or ''}".strip()
        raise ResolveError(f"{what} has no program {argv0!r}{f': {error.problem}' if error else ''}", error.instead if error else f"Declare Elf({argv0!r}).")



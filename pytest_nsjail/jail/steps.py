"""The steps of making a jail, as values: what the kernel will be asked, in order, and in words.

A step is performed by :mod:`pytest_nsjail.jail.perform`, in the jail's init. Paths of the host are seen until
:class:`Pivot`; targets are paths inside the jail.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pytest_nsjail.kernel.idmap import IdMap


class Unshare(NamedTuple):
    """Leave the zygote's namespaces of these kinds: mount, network, ipc, uts, cgroup."""

    kinds: tuple[str, ...]


class Stage(NamedTuple):
    """A tmpfs on an empty directory of the host's, seen by this jail alone: the root is put together in it, with an empty ``/tmp``."""

    directory: str


class Proc(NamedTuple):
    """A fresh procfs of the jail's own processes."""


class ProtectProc(NamedTuple):
    """What only root may write in ``/proc`` made read-only.

    Where the jail's root is the host's by number, the kernel would let it write ``/proc/sys`` and
    ``/proc/sysrq-trigger``: there it asks for the uid, not for a capability.

    :param names: the top-level entries of ``/proc`` in question.
    """

    names: tuple[str, ...]


class Devices(NamedTuple):
    """``/dev``: the host's harmless devices, bound; shared memory and terminals of the jail's own."""


class Loopback(NamedTuple):
    """The network's own interface up, and every port and ping open to the jail's users."""


class Overlay(NamedTuple):
    """The image under a throwaway writable layer."""

    lower: str
    userxattr: bool


class Workplace(NamedTuple):
    """What a process of pytest's own needs, to be held before the host's files are out of sight (:class:`Hold`), and put in place after.

    :param shown: what stays the host's, each with whether it may be written.
    :param project: the directory whose changes go to a throwaway layer; empty for none.
    :param fresh: directories that are made, with their modes; ``uid`` and ``gid`` own them.
    """

    shown: tuple[tuple[str, bool], ...]
    project: str
    fresh: tuple[tuple[str, int], ...]
    uid: int
    gid: int
    userxattr: bool


class Hold(NamedTuple):
    """Hold what a :class:`Workplace` of the same fields will put in place."""

    shown: tuple[tuple[str, bool], ...]
    project: str
    fresh: tuple[tuple[str, int], ...]
    uid: int
    gid: int
    userxattr: bool


class HostRoot(NamedTuple):
    """The host's files as the root: read-only.

    :param hidden: directories that are empty all the same, with their modes; an outer one before an inner one.
    """

    hidden: tuple[tuple[str, int], ...]


class Unstage(NamedTuple):
    """The stage out of sight, where the root is not changed."""


class Furnish(NamedTuple):
    """``/dev`` and ``/proc``, prepared by then, into the root."""


class ShareNetwork(NamedTuple):
    """The network of the test that asks for the jail, by a descriptor that comes along (:data:`Site.given`): it has the host's in its place."""


class ShareIpc(NamedTuple):
    """The IPC namespace of another jail in place of an own one, and its ``/dev/shm``, by descriptors that come along (:data:`Site.given`)."""


class BindPath(NamedTuple):
    """A file or directory of the host.

    :param ids: what those who look through it call its users and groups (:func:`pytest_nsjail.kernel.mounts.map_mount`); None: what the host does.
    :param identity: its device and inode number as pytest sees it: what is mounted over it later than the zygote began, jails do not see.
    """

    source: str
    target: str
    writable: bool
    identity: tuple[int, int]
    ids: IdMap | None = None


class MountTmpfs(NamedTuple):
    """An empty file system in memory; ``size`` in bytes or None."""

    target: str
    size: int | None
    mode: int


class MountHosts(NamedTuple):
    """The names of who is in the jail's network, read-only: a file that changes as they come and go."""

    target: str


class BindDevice(NamedTuple):
    """A device of the host under its own path."""

    path: str


class Terminal(NamedTuple):
    """What /dev/tty is to a test: it is of no session of the terminal's, and so the kernel gives it none (tty(4))."""

    path: str


class ReadOnlyRoot(NamedTuple):
    """No more writing to the root file system; mounts on it keep their own mode."""


class Pivot(NamedTuple):
    """The root becomes the root, and the host's file systems go out of reach."""


class Hostname(NamedTuple):
    """The jail's name for itself."""

    name: str


Step = (
    Unshare | Stage | Proc | ProtectProc | Devices | Loopback | Overlay | Hold | HostRoot | Workplace | Unstage | ShareNetwork | ShareIpc | Furnish | BindPath
    | MountTmpfs | MountHosts | BindDevice | Terminal | ReadOnlyRoot | Pivot | Hostname
)

_KINDS: dict[str, type[Step]] = {
    kind.__name__: kind
    for kind in (
        Unshare, Stage, Proc, ProtectProc, Devices, Loopback, Overlay, Hold, HostRoot, Workplace, Unstage, ShareNetwork, ShareIpc, Furnish, BindPath,
        MountTmpfs, MountHosts, BindDevice, Terminal, ReadOnlyRoot, Pivot, Hostname,
    )
}


def describe(step: Step) -> str:
    """A step in words, as a clause for a plan or an error."""
    match step:
        case Unshare(kinds):
            return f"fresh {', '.join(kinds)} namespaces"
        case Stage(directory):
            return f"a private tmpfs on {directory}"
        case Proc():
            return "a fresh /proc"
        case ProtectProc(_):
            return "the writable parts of /proc made read-only"
        case Devices():
            return "a minimal /dev"
        case Loopback():
            return "the loopback interface up"
        case Overlay(lower, _):
            return f"an overlay over the image {lower}"
        case Hold(shown, project):
            return f"a hold on {', '.join(path for path, _ in (*shown, (project, True)))}"
        case HostRoot(hidden):
            return f"the host's files read-only, and {', '.join(path for path, _ in hidden)} empty"
        case Workplace(shown, project):
            places = f"{', '.join(path for path, _ in shown)} in sight"
            return f"an overlay over the project {project}, and {places}" if project else f"in the root: {places}"
        case Unstage():
            return "the stage out of sight"
        case ShareNetwork():
            return "a network namespace that is the test's"
        case ShareIpc():
            return "an IPC namespace that is another jail's"
        case Furnish():
            return "/dev and /proc in the root"
        case BindPath(source, target, writable, _, ids):
            return f"a {'writable' if writable else 'read-only'} bind{', id-mapped,' if ids else ''} of {source} on {target}"
        case MountTmpfs(target, size, _):
            return f"a tmpfs on {target}{f' of {size} bytes' if size else ''}"
        case MountHosts(target):
            return f"the names of the network on {target}"
        case BindDevice(path):
            return f"the device {path}"
        case Terminal(path):
            return f"the terminal {path} as /dev/tty"
        case ReadOnlyRoot():
            return "a read-only root"
        case Pivot():
            return "the change of root (pivot_root)"
        case Hostname(name):
            return f"the hostname {name}"


def encode(step: Step) -> list[Any]:
    """For the wire: the step's name, then its fields."""
    return [type(step).__name__, *step]


def decode(encoded: list[Any]) -> Step:
    """From the wire."""
    name, *fields = encoded
    return _KINDS[name](*fields)

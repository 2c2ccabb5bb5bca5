"""From a declaration to what the kernel will be asked: pure, so that a plan can be read, compared and printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pytest_nsjail.jail.steps import (
    BindDevice,
    BindPath,
    Devices,
    Furnish,
    Hold,
    Hostname,
    HostRoot,
    Loopback,
    MountHosts,
    MountTmpfs,
    Overlay,
    Pivot,
    Proc,
    ProtectProc,
    ReadOnlyRoot,
    ShareIpc,
    ShareNetwork,
    Stage,
    Step,
    Terminal,
    Unshare,
    Unstage,
    Workplace,
)
from pytest_nsjail.kernel.idmap import IdMap
from pytest_nsjail.spec.jail import JailSpec
from pytest_nsjail.spec.mount import Bind, Tmpfs
from pytest_nsjail.spec.network import NetworkSpec


class World(NamedTuple):
    """What the zygote has made once, and every jail starts from.

    :param stage: an empty directory of the host's, on which each jail mounts its own.
    :param privileged: whether the zygote is root outside of any namespace of its own.
    :param initial: whether its user namespace is the host's first one.
    :param capabilities: pytest's own, a bit for each: who enters a jail from it has no others there.
    :param protected: what of ``/proc`` its jails must not write, for their root is the host's by number.
    """

    stage: str
    privileged: bool
    initial: bool
    capabilities: int
    protected: tuple[str, ...]


def base(world: World, network: str) -> tuple[Step, ...]:
    """What does not depend on the program, so that it can be done before anybody asks."""
    own_network = network == "none"
    return (
        Unshare(("mount", *(("network",) if own_network else ()), "ipc", "uts", "cgroup")),
        Stage(world.stage),
        Proc(),
        Devices(),
        *((Loopback(),) if own_network else ()),
        *((ProtectProc(world.protected),) if world.protected else ()),
    )


class Surroundings(NamedTuple):
    """What of the host an isolated test has to do with; every path absolute and without symlinks.

    :param hidden: directories that are to be empty, with their modes.
    :param needed: what the interpreter reads, wherever it lies.
    :param writable: what stays the host's, and writable.
    :param project: the directory that is copied on write.
    :param mounted: mount points below the project: no layer over it reaches into them.
    :param terminal: the terminal of this session of processes; empty: it has none.
    """

    hidden: tuple[tuple[str, int], ...]
    needed: tuple[str, ...]
    writable: tuple[str, ...]
    project: str
    mounted: tuple[str, ...] = ()
    terminal: str = ""


_HOSTS = "/etc/hosts"
# Where a test finds its home directory, and what belongs to it (XDG Base Directory Specification 0.8).
_HOME = "home"
_XDG = {"XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache", "XDG_DATA_HOME": ".local/share", "XDG_STATE_HOME": ".local/state"}


def homes(around: Surroundings) -> dict[str, str]:
    """The variables that say where a test's own directories are."""
    place = next((path for path, _ in around.hidden if path == "/run"), around.hidden[0][0] if around.hidden else "")
    if not place:
        return {}
    home = f"{place}/nsjail/{_HOME}"
    return {"HOME": home, **{name: f"{home}/{path}" for name, path in _XDG.items()}, "XDG_RUNTIME_DIR": f"{place}/nsjail/runtime"}


def isolated(around: Surroundings, world: World, *, rootfs: str | None, hostname: str, uid: int, gid: int) -> tuple[Step, ...]:
    """What remains to be done for an isolated test.

    :param rootfs: its root file system; None: the host's files.
    :param uid: who owns its home directory, as the zygote's user namespace numbers him; ``gid`` likewise.
    """
    hidden = [(path, mode) for path, mode in sorted(around.hidden) if not _below(path, [other for other, _ in around.hidden if other != path])]
    project = "" if around.project == "/" else around.project
    writable = [path for path in sorted(set(around.writable)) if not _below(path, [other for other in around.writable if other != path])]
    places = [path for path, _ in hidden]
    covered = [*writable, *([project] if project else [])]
    needed = [path for path in sorted(set(around.needed)) if (rootfs or _below(path, places)) and not _below(path, covered)]
    needed = [path for path in needed if not _below(path, [other for other in needed if other != path])]
    made = homes(around)
    # A temporary directory below another is made in that one.
    fresh = tuple((path, mode) for path, mode in sorted(around.hidden) if (path, mode) not in hidden)
    fresh += tuple((path, 0o700) for path in (made["HOME"], made["XDG_RUNTIME_DIR"])) if made else ()
    mounted = [path for path in sorted(around.mounted) if project and not _below(path, [*writable, *(other for other in around.mounted if other != path)])]
    shown = (*((path, False) for path in (*needed, *mounted)), *((path, True) for path in writable))
    userxattr = not world.initial
    work = Workplace(shown, project, fresh, uid, gid, userxattr)
    terminal = (Terminal(around.terminal),) if around.terminal else ()
    if rootfs:
        return *terminal, Hold(*work), Overlay(rootfs, userxattr), work, Furnish(), Pivot(), Hostname(hostname)
    return *terminal, Hold(*work), HostRoot(tuple(hidden)), work, Unstage(), Hostname(hostname)


def _below(path: str, others: Iterable[str]) -> bool:
    return any(path == other or path.startswith(other.rstrip("/") + "/") for other in others)


def repeatable(steps: Iterable[Step]) -> bool:
    """Whether these steps mean the same when they are done later, or sooner: what a bind shows may be replaced on the host."""
    return not any(isinstance(step, (BindPath, BindDevice, ShareNetwork, ShareIpc)) for step in steps)


class Source(NamedTuple):
    """What a bind gives.

    :param identity: its device and inode number.
    :param owner: the user and the group it belongs to.
    :param ids: by which map the jail sees them; None: as they are.
    """

    identity: tuple[int, int]
    owner: tuple[int, int]
    ids: IdMap | None = None


def plan(spec: JailSpec, rootfs: str, world: World, sources: Mapping[str, Source], *, within: bool = False) -> tuple[Step, ...]:
    """What remains, for one declaration. Mounts come in the order declared, so that a later one lies on an earlier one.

    :param sources: what each bind gives.
    :param within: whether an isolated test asks for it.
    """
    steps: list[Step] = [Overlay(rootfs, userxattr=not world.initial)]
    if within and spec.network == "host":
        steps.append(ShareNetwork())
    if spec.ipc:
        steps.append(ShareIpc())
    steps.append(Furnish())
    if spec.read_only and not any(mount.target == "/tmp" for mount in spec.mounts):
        steps.append(MountTmpfs("/tmp", None, 0o1777))
    for mount in spec.mounts:
        match mount:
            case Bind():
                source = sources[str(mount.source)]
                steps.append(BindPath(str(mount.source), str(mount.target), mount.writable, source.identity, source.ids if mount.writable else None))
            case Tmpfs():
                size = mount.size if isinstance(mount.size, int) else None
                steps.append(MountTmpfs(str(mount.target), size, 0o1777 if mount.target in ("/tmp", "/var/tmp", "/dev/shm") else 0o755))
    if isinstance(spec.network, NetworkSpec) and not any(mount.target == _HOSTS for mount in spec.mounts):
        # After an /etc of the user's, and not in place of a file of his.
        steps.append(MountHosts(_HOSTS))
    steps += [BindDevice(str(device.path)) for device in spec.devices]
    if spec.read_only:
        steps.append(ReadOnlyRoot())
    steps += [Pivot(), Hostname(spec.hostname)]
    return tuple(steps)

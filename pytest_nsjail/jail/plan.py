"""From a declaration to what the kernel will be asked: pure, so that a plan can be read, compared and printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pytest_nsjail.jail.steps import (
    BindDevice,
    BindPath,
    Devices,
    Furnish,
    Hostname,
    Loopback,
    MountTmpfs,
    Overlay,
    Pivot,
    Proc,
    ProtectProc,
    ReadOnlyRoot,
    Stage,
    Step,
    Unshare,
)
from pytest_nsjail.spec.jail import JailSpec
from pytest_nsjail.spec.mount import Bind, Tmpfs


class World(NamedTuple):
    """What the zygote has made once, and every jail starts from.

    :param stage: an empty directory of the host's, on which each jail mounts its own.
    :param privileged: whether the zygote is root outside of any namespace of its own.
    :param initial: whether its user namespace is the host's first one.
    :param protected: what of ``/proc`` its jails must not write, for their root is the host's by number.
    """

    stage: str
    privileged: bool
    initial: bool
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


def repeatable(steps: Iterable[Step]) -> bool:
    """Whether these steps mean the same when they are done later, or sooner: what a bind shows may be replaced on the host."""
    return not any(isinstance(step, (BindPath, BindDevice)) for step in steps)


def plan(spec: JailSpec, rootfs: str, world: World, sources: Mapping[str, tuple[int, int]]) -> tuple[Step, ...]:
    """What remains, for one declaration. Mounts come in the order declared, so that a later one lies on an earlier one.

    :param sources: device and inode number of what each bind gives.
    """
    steps: list[Step] = [Overlay(rootfs, userxattr=not world.initial), Furnish()]
    if spec.read_only and not any(mount.target == "/tmp" for mount in spec.mounts):
        steps.append(MountTmpfs("/tmp", None, 0o1777))
    for mount in spec.mounts:
        match mount:
            case Bind():
                steps.append(BindPath(str(mount.source), str(mount.target), mount.writable, sources[str(mount.source)]))
            case Tmpfs():
                size = mount.size if isinstance(mount.size, int) else None
                steps.append(MountTmpfs(str(mount.target), size, 0o1777 if mount.target in ("/tmp", "/var/tmp", "/dev/shm") else 0o755))
    steps += [BindDevice(str(device.path)) for device in spec.devices]
    if spec.read_only:
        steps.append(ReadOnlyRoot())
    steps += [Pivot(), Hostname(spec.hostname)]
    return tuple(steps)

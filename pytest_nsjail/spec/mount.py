"""What a jail can be given besides its image: paths of the host, empty file systems, devices."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_nsjail.errors import SpecError
from pytest_nsjail.spec import check
from pytest_nsjail.spec.check import StrPath


@dataclass(frozen=True)
class Bind(check.Declared):
    """A file or a directory of the host, seen inside the jail. Read-only unless told, with every mount below it.

    What is writable belongs to the jail's user inside, and so does what he writes there; outside it all belongs to who owns ``source``: as root by
    an id-mapped mount, for a plain user by the map of the jail's ids, where his own then stands for the jail's user. Root of a jail that root
    has made writes as root.

    :param source: the path on the host, absolute; symlinks are followed.
    :param target: where it is seen in the jail; made where it does not exist.
    :param writable: whether the jail may write to the host's file or directory.
    """

    source: StrPath
    target: StrPath
    writable: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", check.source(repr(self), self.source))
        object.__setattr__(self, "target", check.inside(repr(self), "the target", self.target))
        if not isinstance(self.writable, bool):
            raise SpecError(repr(self), f"writable is {self.writable!r}", "Write True or False.")

    def __repr__(self) -> str:
        return f"Bind({str(self.source)!r}, {str(self.target)!r}{', writable=True' if self.writable is True else ''})"


@dataclass(frozen=True)
class Tmpfs(check.Declared):
    """An empty, writable file system in memory (tmpfs(5)).

    :param target: where it is mounted; made where it does not exist.
    :param size: how much it may hold: bytes, or digits with K, M, G; half of the memory unless told.
    """

    target: StrPath
    size: int | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", check.inside(repr(self), "the target", self.target))
        if self.size is not None:
            object.__setattr__(self, "size", check.size(repr(self), "size", self.size))

    def __repr__(self) -> str:
        return f"Tmpfs({str(self.target)!r}{f', size={self.size!r}' if self.size is not None else ''})"


@dataclass(frozen=True)
class Device(check.Declared):
    """A device of the host under the same path: ``Device("/dev/fuse")``. Bound, never made.

    :param path: the device node, below ``/dev``.
    """

    path: StrPath

    def __post_init__(self) -> None:
        path = check.inside(repr(self), "the path", self.path)
        if not path.startswith("/dev/"):
            raise SpecError(repr(self), f"{path!r} is not below /dev", "Name a device node: Device('/dev/fuse').")
        object.__setattr__(self, "path", path)

    def __repr__(self) -> str:
        return f"Device({str(self.path)!r})"


Mount = Bind | Tmpfs

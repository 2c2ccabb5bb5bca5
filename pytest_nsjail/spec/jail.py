"""The two declarations everything else is made from: an image, and a jail that runs one program in it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypedDict

from pytest_nsjail.errors import SpecError
from pytest_nsjail.spec import check
from pytest_nsjail.spec.check import StrPath
from pytest_nsjail.spec.dependency import Dependency
from pytest_nsjail.spec.limits import Limits
from pytest_nsjail.spec.mount import Bind, Device, Mount, Tmpfs
from pytest_nsjail.spec.network import NetworkSpec
from pytest_nsjail.spec.publish import Inner, Publish, published
from pytest_nsjail.spec.ready import Ready, condition, ports

_HOSTNAME = "nsjail"


@dataclass(frozen=True)
class ImageSpec:
    """A scratch root file system, declared.

    :param dependencies: what it is made of.
    :param env: variables of every program in it, as pairs.
    :param workdir: the working directory; made in the image.
    :param user: who programs run as: ``name``, ``uid``, ``name:group``, ``uid:gid``; root unless told.
    :param entrypoint: stands before the argv of every run.
    :param cmd: the argv of a run that gives none.
    :param name: what messages call it.
    """

    dependencies: tuple[Dependency, ...]
    env: tuple[tuple[str, str], ...] = ()
    workdir: str | None = None
    user: str | None = None
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    name: str | None = None

    @classmethod
    def declared(
        cls, *dependencies: Dependency, env: Mapping[str, str] | None = None, workdir: StrPath | None = None,
        user: str | int | None = None, entrypoint: Iterable[str] = (), cmd: Iterable[str] = (), name: str | None = None,
    ) -> ImageSpec:
        """From what a user wrote; every value is checked.

        :raises SpecError: for a value that cannot be meant.
        """
        declaration = "nsjail_image()"
        for dependency in dependencies:
            if not isinstance(dependency, Dependency):
                raise SpecError(declaration, f"{dependency!r} is no dependency", "Write Elf(...), Script(...), File(...), Tree(...), Text(...).")
        return cls(
            dependencies,
            env=check.environment(declaration, env or {}),
            workdir=None if workdir is None else check.inside(declaration, "workdir", workdir, root=True),
            user=None if user is None else check.user(declaration, user),
            entrypoint=check.argv(declaration, entrypoint),
            cmd=check.argv(declaration, cmd),
            name=None if name is None else check.text(declaration, "the name", name),
        )


class ImageOptions(TypedDict, total=False):
    """What can be said of an image besides its dependencies; see :class:`ImageSpec`."""

    env: Mapping[str, str] | None
    workdir: StrPath | None
    user: str | int | None
    entrypoint: Iterable[str]
    cmd: Iterable[str]
    name: str | None


class Options(TypedDict, total=False):
    """What can be said of a jail besides its program and its image; see :class:`JailSpec`."""

    mounts: Iterable[Mount]
    env: Mapping[str, str] | None
    workdir: StrPath | None
    user: str | int | None
    stdin: str | bytes | None
    limits: Limits | None
    timeout: float | None
    network: object
    name: str | None
    hostname: str | None
    ipc: object
    devices: Iterable[Device | StrPath]
    read_only: bool
    publish: Mapping[Inner, int | tuple[str, int]]
    activate: Iterable[int]
    ready: Ready | None
    observe: bool


@dataclass(frozen=True)
class JailSpec:
    """One program in one jail, declared. What ``pytest_nsjail_spec`` gets and may return changed (:func:`dataclasses.replace`).

    :param argv: the arguments; the image's entrypoint stands before them.
    :param image: the root file system; None: the closure of ``argv[0]``.
    :param mounts: binds and tmpfs, in this order.
    :param env: variables, as pairs; they override the image's.
    :param workdir: the working directory; None: the image's, or ``/``.
    :param user: who the program runs as; None: the image's, or root.
    :param stdin: what the program reads; None: ``/dev/null``.
    :param limits: what it may use at the most.
    :param timeout: wall time in seconds; None: no limit.
    :param network: ``none``: an own network with loopback only; ``host``: the host's; else the one that it joins.
    :param name: what the others in that network call it.
    :param hostname: the jail's host name; its name, or ``nsjail``, unless told.
    :param ipc: the jail whose IPC namespace, and ``/dev/shm``, is this one's too, as that was declared; None: an own one.
    :param devices: devices of the host besides null, zero, full, random, urandom and tty.
    :param read_only: whether the root file system refuses writes; ``/tmp`` is then a tmpfs.
    :param publish: ports that the host reaches.
    :param activate: TCP ports that are listened on for the program, which gets the sockets (sd_listen_fds(3)).
    :param ready: when it counts as started; None: at once.
    :param observe: whether attempts to reach what is not there are told, see :attr:`Jail.refused`, also for what that costs the program.
    """

    argv: tuple[str, ...]
    image: ImageSpec | None = None
    mounts: tuple[Mount, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    workdir: str | None = None
    user: str | None = None
    stdin: bytes | None = None
    limits: Limits = field(default_factory=Limits)
    timeout: float | None = None
    network: str | NetworkSpec = "none"
    name: str | None = None
    hostname: str = _HOSTNAME
    ipc: JailSpec | None = None
    devices: tuple[Device, ...] = ()
    read_only: bool = False
    publish: tuple[Publish, ...] = ()
    activate: tuple[int, ...] = ()
    ready: Ready | None = None
    observe: bool = False

    @classmethod
    def declared(
        cls, argv: Iterable[StrPath], *, by: str = "nsjail_run", image: ImageSpec | None = None, mounts: Iterable[Mount] = (),
        env: Mapping[str, str] | None = None, workdir: StrPath | None = None, user: str | int | None = None, stdin: str | bytes | None = None,
        limits: Limits | None = None, timeout: float | None = None, network: object = "none", name: str | None = None, hostname: str | None = None,
        ipc: object = None, devices: Iterable[Device | StrPath] = (), read_only: bool = False, publish: Mapping[Inner, int | tuple[str, int]] | None = None,
        activate: Iterable[int] = (), ready: Ready | None = None, observe: bool = False,
    ) -> JailSpec:
        """From what a user wrote; every value is checked.

        :param by: what the user called.
        :raises SpecError: for a value that cannot be meant.
        """
        arguments = check.argv(f"{by}()", argv)
        declaration = f"{by}({list(arguments)!r})"
        whole = (*image.entrypoint, *(arguments or image.cmd)) if image else arguments
        if not whole or not whole[0]:
            raise SpecError(declaration, "there is no program to run", "Write its path first: ['/usr/bin/git', '--version'].")
        if image is None and not whole[0].startswith("/"):
            problem = f"{whole[0]!r} is not absolute, and no image has a PATH to look it up in"
            raise SpecError(declaration, problem, f"Write where it is: '/usr/bin/{whole[0]}', or give image=.")
        asked: list[Mount] = []
        for mount in check.sequence(declaration, "mounts", mounts, "Bind('/etc/hosts', '/etc/hosts')"):
            if not isinstance(mount, (Bind, Tmpfs)):
                raise SpecError(declaration, f"mounts holds {mount!r}", "Write Bind(source, target) or Tmpfs(target).")
            asked.append(mount)
        if not isinstance(stdin, (str, bytes, type(None))):
            raise SpecError(declaration, f"stdin is {type(stdin).__name__}", "Write a string or bytes.")
        if not isinstance(limits, (Limits, type(None))):
            raise SpecError(declaration, f"limits is {limits!r}", "Write limits=Limits(memory='256M').")
        if not (network in ("none", "host") or isinstance(network, NetworkSpec)):
            raise SpecError(declaration, f"network={network!r} is no network", "Write network='none', network='host', or what nsjail_network() returned.")
        if name is not None:
            check.hostname(declaration, name)
            if not isinstance(network, NetworkSpec):
                raise SpecError(declaration, f"name={name!r} is a name in no network", "Give network=nsjail_network(), or write hostname=.")
        if not isinstance(ipc, (JailSpec, type(None))):
            raise SpecError(declaration, f"ipc={ipc!r} is no jail", "Write what nsjail_start() returned.")
        outside = published(declaration, publish or {})
        if network == "host" and outside:
            raise SpecError(declaration, f"publish={publish!r} of a program that is in the host's own network", "Leave it out: its ports are the host's.")
        activated = tuple(check.port(declaration, "activate", port) for port in check.sequence(declaration, "activate", activate, "8080"))
        if len(set(activated)) < len(activated):
            raise SpecError(declaration, f"activate={list(activated)} names a port twice", "Write it once.")
        if ready is not None:
            condition(declaration, ready)
            known = {*activated, *(one.port for one in outside if not one.udp)}
            for port in ports(ready) if known else ():
                if port not in known:
                    problem = f"ready is about port {port}, and what is declared is {', '.join(map(str, sorted(known)))}"
                    raise SpecError(declaration, problem, f"Write the same port in both, or declare that one, too: publish={{{port}: 0}}.")
        if not isinstance(observe, bool):
            raise SpecError(declaration, f"observe is {observe!r}", "Write True or False.")
        if not isinstance(read_only, bool):
            raise SpecError(declaration, f"read_only is {read_only!r}", "Write True or False.")
        return cls(
            arguments,
            image=image,
            mounts=tuple(asked),
            env=check.environment(declaration, env or {}),
            workdir=None if workdir is None else check.inside(declaration, "workdir", workdir, root=True),
            user=None if user is None else check.user(declaration, user),
            stdin=check.encodable(declaration, "stdin", stdin).encode(errors="surrogateescape") if isinstance(stdin, str) else stdin,
            limits=limits or Limits(),
            timeout=None if timeout is None else check.seconds(declaration, "timeout", timeout),
            network=network,
            name=name,
            hostname=name or _HOSTNAME if hostname is None else check.hostname(declaration, hostname),
            ipc=ipc,
            devices=tuple(
                device if isinstance(device, Device) else Device(device)  # type: ignore[arg-type]
                for device in check.sequence(declaration, "devices", devices, "'/dev/fuse'")
            ),
            read_only=read_only,
            publish=outside,
            activate=activated,
            ready=ready,
            observe=observe,
        )

    def command(self) -> tuple[str, ...]:
        """The whole argument list: the image's entrypoint, then the argv or the image's cmd."""
        return (*self.image.entrypoint, *(self.argv or self.image.cmd)) if self.image else self.argv

    def label(self) -> str:
        """What its output is told by: its name in a network, its host name, or its program's."""
        return self.name or (self.hostname if self.hostname != _HOSTNAME else posixpath.basename(self.command()[0]))

    def directory(self) -> str:
        """The program's working directory: its own, the image's, or the root."""
        return self.workdir or (self.image.workdir if self.image else None) or "/"

    def account(self) -> str | None:
        """Who the program runs as: its own user, or the image's; None for root."""
        return self.user or (self.image.user if self.image else None)

    def environment(self) -> dict[str, str]:
        """Every variable the program gets, and no other."""
        return {**dict(self.image.env if self.image else ()), **dict(self.env)}

    def entering(
        self, argv: Iterable[StrPath], *, env: Mapping[str, str] | None = None, workdir: StrPath | None = None, user: str | int | None = None,
        stdin: str | bytes | None = None, timeout: float | None = None,
    ) -> JailSpec:
        """One more program for the jail that this one runs in: all the same but for what is given.

        :raises SpecError: for a value that cannot be meant.
        """
        image = replace(self.image, entrypoint=(), cmd=()) if self.image else ImageSpec(())
        asked = JailSpec.declared(argv, by="jail.run", image=image, env=env, workdir=workdir, user=user, stdin=stdin, timeout=timeout)
        merged = tuple({**dict(self.env), **dict(asked.env)}.items())
        return replace(self, argv=asked.argv, image=image, env=merged, workdir=asked.workdir or self.workdir, user=asked.user or self.user,
                       stdin=asked.stdin, timeout=asked.timeout, publish=(), activate=(), ready=None)

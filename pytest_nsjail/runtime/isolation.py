"""From the declaration of an isolated test to what its jail and its process are to be; worked out once for each declaration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_nsjail.errors import SpecError, Unsupported
from pytest_nsjail.image.host import HostView
from pytest_nsjail.jail.entry import User
from pytest_nsjail.jail.plan import Surroundings, World, homes, isolated
from pytest_nsjail.jail.steps import Step
from pytest_nsjail.kernel import idmap
from pytest_nsjail.runtime import interpreter
from pytest_nsjail.runtime.identity import identify
from pytest_nsjail.runtime.surroundings import surroundings
from pytest_nsjail.spec.isolated import IsolatedSpec
from pytest_nsjail.spec.jail import ImageSpec

if TYPE_CHECKING:
    from pytest_nsjail.runtime.image import Image


class Isolation(NamedTuple):
    """One declaration, with everything about it settled.

    :param steps: the jail's plan.
    :param maps: of the test's user namespace.
    :param uid: who the test is, inside.
    :param user: what its process takes on; None: it stays who it is.
    :param env: the variables that it gets besides pytest's own.
    """

    steps: tuple[Step, ...]
    maps: idmap.IdMap
    uid: int
    user: User | None
    env: dict[str, str]
    project: str


class Isolations:
    """Settles declarations.

    :param build: makes an image of its declaration.
    :param ids: the ids that a jail here can have.
    """

    def __init__(self, world: World, ids: idmap.IdMap, build: Callable[[ImageSpec], Image]) -> None:
        self._world, self._ids, self._build = world, ids, build
        self._settled: dict[tuple[IsolatedSpec, str, tuple[str, ...]], Isolation] = {}

    def settle(self, spec: IsolatedSpec, project: str, writable: Iterable[str]) -> Isolation:
        """Settle one.

        :raises SpecError: for a directory that is not there.
        :raises ResolveError: for a user that is not there.
        :raises Unsupported: for ids that cannot be had here.
        """
        key = spec, project, tuple(writable)
        if key not in self._settled:
            self._settled[key] = self._isolation(*key)
        return self._settled[key]

    def _isolation(self, spec: IsolatedSpec, project: str, writable: tuple[str, ...]) -> Isolation:
        for path in spec.writable:
            if not os.path.exists(path):
                raise SpecError("pytest.mark.isolated", f"writable names {path}, which is not there", "Make it first, or leave it out.")
        world, uid, gid = self._world, os.getuid(), os.getgid()
        around = surroundings(project=project, writable=(*writable, *spec.writable), network=spec.network)
        if around.mounted and not world.privileged:
            what = f"a plain user's throwaway layer over {around.project}, for {', '.join(around.mounted)} is mounted below it"
            raise Unsupported(what, "Run the tests as root, unmount it, or choose a --rootdir without mounts.")
        image = None
        if spec.image is not None:
            image = self._build(replace(spec.image, dependencies=(*spec.image.dependencies, *interpreter.dependencies())))
            around = around._replace(needed=interpreter.places())
        if spec.user is not None:
            # The terminal is that of who runs pytest.
            around = around._replace(terminal="")
        user = None
        # A plain user stays the one who he is, whatever other ids his jails can have.
        alone = idmap.IdMap((idmap.Range(uid, 0, 1),), (idmap.Range(gid, 0, 1),), False)
        maps = idmap.payload(self._ids, uid, gid) if world.privileged else alone
        if spec.user is not None:
            who = identify(spec.user, image.view if image else HostView(), self._ids)
            uid, gid, maps = who.uid, who.gid, who.idmap
            user = uid, gid, who.groups if maps.setgroups else None
        steps = isolated(
            around, world, rootfs=image.rootfs.path if image else None, hostname=spec.hostname,
            uid=idmap.outside(maps.uids, uid), gid=idmap.outside(maps.gids, gid),
        )
        return Isolation(steps, maps, uid, user, self._env(spec, image, around), around.project)

    def _env(self, spec: IsolatedSpec, image: Image | None, around: Surroundings) -> dict[str, str]:
        return {**homes(around), **dict(image.spec.env if image else ()), **dict(spec.env)}

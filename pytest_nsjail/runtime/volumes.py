"""Writable binds: what a jail's user writes there is its own inside, and outside it belongs to who owns the directory.

As root the mount is id-mapped: the owner and the user have changed places in it. A plain user can make no such mount, but the map of the
jail's user namespace is his to choose: there the user is he.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pytest_nsjail.jail.plan import Source
from pytest_nsjail.kernel import idmap
from pytest_nsjail.kernel.idmap import IdMap
from pytest_nsjail.runtime.identity import Identity
from pytest_nsjail.spec.jail import JailSpec
from pytest_nsjail.spec.mount import Bind


def of_the_caller(spec: JailSpec, sources: Mapping[str, Source]) -> bool:
    """Whether a jail is to write to what belongs to this process's own user."""
    return any(sources[path].owner[0] == os.geteuid() for path in _volumes(spec))


def mapped(spec: JailSpec, sources: Mapping[str, Source], who: Identity) -> dict[str, Source]:
    """The same sources, with the id maps of those that belong to somebody else than the jail's user. Root writes anywhere, as root."""
    found = dict(sources)
    for path in _volumes(spec):
        uid, gid = found[path].owner
        if who.uid not in (0, uid) and idmap.holds(who.idmap.uids, uid) and idmap.holds(who.idmap.gids, gid):
            uids, gids = idmap.exchanged(who.idmap.uids, who.uid, uid), idmap.exchanged(who.idmap.gids, who.gid, gid)
            found[path] = found[path]._replace(ids=IdMap(uids, gids, who.idmap.setgroups))
    return found


def advice(path: str, uid: int, gid: int) -> str:
    """The way out where the file system of a bind knows no id maps.

    :param uid: the jail's user; ``gid`` his group.
    """
    owner = os.stat(path)
    instead = f"have it belong to the jail's user (chown {uid}:{gid} {path}), or run as its owner (user='{owner.st_uid}:{owner.st_gid}')"
    return f"It is {owner.st_uid}:{owner.st_gid}'s, its file system takes no id-mapped mounts, and only {uid}:{gid} is to write there: {instead}."


def _volumes(spec: JailSpec) -> list[str]:
    return [str(mount.source) for mount in spec.mounts if isinstance(mount, Bind) and mount.writable]

"""Who a program is: looked up in the root's own files, and in the ids that a jail can have."""

from __future__ import annotations

from typing import NamedTuple

from pytest_nsjail.errors import Unsupported
from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.kernel import idmap
from pytest_nsjail.kernel.idmap import IdMap
from pytest_nsjail.resolve.accounts import lookup_user
from pytest_nsjail.resolve.walk import Walker

_MANY_IDS = "As root any ids can be had; as a plain user, with newuidmap (Debian's package uidmap) and a range of yours in /etc/subuid and /etc/subgid"


class Identity(NamedTuple):
    """Who a program runs as, and what its user namespace calls everybody."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    idmap: IdMap


def identify(user: str | None, view: FileView, world: IdMap, joined: IdMap | None = None, *, caller: bool = False) -> Identity:
    """Who ``user`` is in the root's own passwd(5) and group(5), and which id map that takes.

    :param world: the ids that jails here can have.
    :param joined: the map of the running jail that is entered, if one is.
    :param caller: whether outside the user is to be who stands for root in ``world``.
    :raises ResolveError: for a name that the root's files do not have.
    :raises Unsupported: for ids that cannot be had here.
    """
    uid, gid, groups = lookup_user(_text(view, "/etc/passwd"), _text(view, "/etc/group"), user or "0")
    chosen = joined or idmap.payload(world, uid, gid)
    if caller and idmap.holds(chosen.uids, 0) and idmap.holds(chosen.gids, 0):
        chosen = IdMap(idmap.exchanged(chosen.uids, uid, 0), idmap.exchanged(chosen.gids, gid, 0), chosen.setgroups)
    if not (idmap.holds(chosen.uids, uid) and idmap.holds(chosen.gids, gid)):
        raise Unsupported(f"user={user!r} is uid {uid}, gid {gid}; this jail has one user, uid {chosen.uids[0].inside}", _MANY_IDS + ".")
    extra = tuple(group for group in groups if group != gid)
    if extra and not all(chosen.setgroups and idmap.holds(chosen.gids, group) for group in extra):
        raise Unsupported(f"user={user!r} is in the groups {extra} besides {gid}, and this jail can have one group", _MANY_IDS + ".")
    return Identity(uid, gid, extra, chosen)


def _text(view: FileView, path: str) -> str:
    walk = Walker(view).walk(path)
    if walk.stat is None or walk.stat.kind is not Kind.FILE:
        return ""
    with view.open(walk.final) as file:
        return file.read().decode(errors="surrogateescape")

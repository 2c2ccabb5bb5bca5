"""User and group id maps (user_namespaces(7)): which ids this process has, and how a child's namespace gets its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_ALL = 2**32 - 1


class Range(NamedTuple):
    """One line of a map: ``size`` ids from ``inside`` in the namespace are those from ``outside`` in its parent."""

    inside: int
    outside: int
    size: int


class IdMap(NamedTuple):
    """What a user namespace calls its users and groups."""

    uids: tuple[Range, ...]
    gids: tuple[Range, ...]
    setgroups: bool

    @classmethod
    def decode(cls, encoded: IdMap | tuple[list[list[int]], list[list[int]], bool]) -> IdMap:
        """From JSON, where tuples became lists."""
        uids, gids, setgroups = encoded
        return cls(tuple(Range(*one) for one in uids), tuple(Range(*one) for one in gids), setgroups)


def own(kind: str = "uid") -> tuple[Range, ...]:
    """This process's own map, ``uid`` or ``gid``."""
    with open(f"/proc/self/{kind}_map", encoding="ascii") as lines:
        return tuple(Range(*map(int, line.split())) for line in lines)


def may_set_groups() -> bool:
    """Whether setgroups(2) is allowed in this process's user namespace; once denied, it is in every one below it as well."""
    with open("/proc/self/setgroups", encoding="ascii") as said:
        return said.read().strip() == "allow"


def in_initial_namespace() -> bool:
    """Whether every id is this process's own, as in the user namespace that the kernel booted with."""
    return own() == (Range(0, 0, _ALL),)


def identity(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Every id that a map's inside has, under its own number."""
    return tuple(Range(inside, inside, size) for inside, _, size in ranges)


def holds(ranges: Iterable[Range], number: int) -> bool:
    """Whether a map's inside has this id."""
    return any(inside <= number < inside + size for inside, _, size in ranges)


def exchanged(ranges: Iterable[Range], one: int, other: int) -> tuple[Range, ...]:
    """The same map with two ids of its inside in each other's place."""
    ranges = tuple(ranges)
    if one == other:
        return ranges
    there = {one: outside(ranges, other), other: outside(ranges, one)}
    found = []
    for inside, first, size in ranges:
        end = inside + size
        for number in sorted(number for number in there if inside <= number < end):
            found += [Range(inside, first, number - inside), Range(number, there[number], 1)]
            inside, first = number + 1, first + number + 1 - inside
        found.append(Range(inside, first, end - inside))
    return tuple(line for line in found if line.size)


def payload(world: IdMap, uid: int, gid: int) -> IdMap:
    """The map of a payload's namespace below ``world``: all of the world's ids where they hold the user, else that user alone.

    One id can always be had: it stands for the world's root, which is the caller.
    """
    if holds(world.uids, uid) and holds(world.gids, gid):
        return IdMap(identity(world.uids), identity(world.gids), world.setgroups)
    return IdMap((Range(uid, 0, 1),), (Range(gid, 0, 1),), False)


def rootless() -> IdMap:
    """The map for a user namespace made without privilege: root is the caller, and the rest its range of subordinate ids.

    Without newuidmap(1), without a range in /etc/subuid (subuid(5)), or where no program gains rights, it holds the caller alone.
    """
    # Here and below: the zygote imports this file too, and never runs a program; what it does not import its children need not copy.
    import shutil

    uid, gid = os.geteuid(), os.getegid()
    uids, gids = (_subordinate(file, uid) for file in ("/etc/subuid", "/etc/subgid"))
    if uids and gids and gains_rights() and shutil.which("newuidmap") and shutil.which("newgidmap"):
        return IdMap((Range(0, uid, 1), *uids), (Range(0, gid, 1), *gids), True)
    return IdMap((Range(0, uid, 1),), (Range(0, gid, 1),), False)


def gains_rights() -> bool:
    """Whether a set-user-ID program such as newuidmap(1) is one here: under no_new_privs (PR_SET_NO_NEW_PRIVS(2const)) none is."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return "NoNewPrivs:\t1\n" not in status.read()


def _subordinate(file: str, uid: int) -> tuple[Range, ...]:
    import pwd

    names = {str(uid)}
    try:
        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            fields = [line.strip().split(":") for line in lines]
    except OSError:
        return ()
    ranges, inside = [], 1
    for name, *numbers in (field for field in fields if len(field) == 3):
        if name in names and all(number.isdigit() for number in numbers) and int(numbers[1]):
            ranges.append(Range(inside, int(numbers[0]), int(numbers[1])))
            inside += int(numbers[1])
    return tuple(ranges)


def write(pid: int | str, idmap: IdMap, proc: str = "/proc") -> None:
    """Give a child's fresh user namespace its map.

    setgroups(2) must be denied before a group map without CAP_SETGID in the parent is taken (CVE-2014-8989). A map
    of several ranges written by a plain user goes through newuidmap(1).

    :raises OSError: from the kernel, or with newuidmap's own words.
    """
    if not idmap.setgroups:
        _put(f"{proc}/{pid}/setgroups", "deny")
    alone = len(idmap.uids) == len(idmap.gids) == 1
    if alone or os.geteuid() == 0:
        _put(f"{proc}/{pid}/uid_map", _lines(idmap.uids))
        _put(f"{proc}/{pid}/gid_map", _lines(idmap.gids))
    else:
        _run("newuidmap", pid, idmap.uids)
        _run("newgidmap", pid, idmap.gids)


def _lines(ranges: Sequence[Range]) -> str:
    return "".join(f"{inside} {outside} {size}\n" for inside, outside, size in ranges)


def _put(path: str, content: str) -> None:
    # One write(2): the kernel takes a map whole or not at all.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content.encode())
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from None
    finally:
        os.close(fd)


def _run(program: str, pid: int | str, ranges: Sequence[Range]) -> None:
    import subprocess

    numbers = [str(number) for line in ranges for number in line]
    ran = subprocess.run([program, str(pid), *numbers], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if ran.returncode:
        raise OSError(1, f"{program}: {ran.stderr.strip() or f'exit status {ran.returncode}'}")


def outside(ranges: Iterable[Range], number: int) -> int:
    """What the parent namespace calls an id of a map's inside."""
    return next(outside + number - inside for inside, outside, size in ranges if inside <= number < inside + size)

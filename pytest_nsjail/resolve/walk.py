"""Symlinks, followed as path_resolution(7) says, with every step kept."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import FileView, Kind, Stat

# MAXSYMLINKS of linux/namei.h: the 41st symlink of one path is ELOOP.
MOST_LINKS = 40


@dataclass(frozen=True)
class Walk:
    """Where a path leads.

    :param links: every symlink met, as (physical path, target).
    :param directories: every physical directory passed through, without the root.
    :param final: the physical path it ends at; where nothing is, the first path that is missing.
    :param stat: what is there; None where nothing is.
    :param trouble: why the system does not say whether anything is there: ``Permission denied``.
    """

    links: tuple[tuple[str, str], ...]
    directories: tuple[str, ...]
    final: str
    stat: Stat | None
    trouble: str = ""


_ROOT = Stat(Kind.DIRECTORY, 0o755, 0, 0, (0, 0))


class Walker:
    """Walks paths of one view; a directory once walked is not asked for again, so a walker lives as long as one answer."""

    def __init__(self, view: FileView) -> None:
        self.view = view
        self._walked: dict[str, Walk] = {"/": Walk((), (), "/", view.lstat("/") or _ROOT)}

    def walk(self, path: str) -> Walk:
        """Follow an absolute path to its end; ``..`` at the root stays there, as in the kernel.

        :raises ResolveError: for more than 40 symlinks.
        """
        known = self._walked.get(path)
        if known is not None:
            return known
        start, rest = "/", path
        parent, _, name = path.rpartition("/")
        if parent and name not in ("", ".", ".."):
            # The common case of a search: a directory walked before, and one name in it.
            start, rest = parent, name
            if start not in self._walked:
                self._walked[start] = self._on(self._walked["/"], start, start)
        self._walked[path] = walk = self._on(self._walked[start], rest, path)
        return walk

    def dangling(self, path: str) -> str:
        """Where a symlink that leads nowhere leads, as a clause; empty where ``path`` itself is no such symlink."""
        walk = self.walk(path)
        if walk.stat is not None or len(walk.links) == len(self.walk(posixpath.dirname(path)).links):
            return ""
        link, target = walk.links[-1]
        return f"the symlink {link} -> {target} leads to {walk.final}, which is not there"

    def _on(self, start: Walk, rest: str, whole: str) -> Walk:
        links, directories, position, stat = list(start.links), list(start.directories), start.final, start.stat
        waiting = rest.split("/")[::-1]
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            if stat is None or stat.kind is not Kind.DIRECTORY:
                return Walk(tuple(links), tuple(directories), position, None)
            if position != "/" and position not in directories:
                directories.append(position)
            if name == "..":
                position = posixpath.dirname(position)
                stat = self.view.lstat(position) or _ROOT
                continue
            below = posixpath.join(position, name)
            try:
                stat = self.view.lstat(below)
            except OSError as error:  # EACCES, ENAMETOOLONG
                return Walk(tuple(links), tuple(directories), below, None, error.strerror or str(error))
            if stat is not None and stat.kind is Kind.SYMLINK:
                target = self.view.readlink(below)
                if len(links) == MOST_LINKS:
                    raise ResolveError(f"{whole} leads through more than {MOST_LINKS} symlinks, the last of them {below} -> {target}", "Break the loop.")
                links.append((below, target))
                waiting.extend(target.split("/")[::-1])
                if target.startswith("/"):
                    position = "/"
                stat = self.view.lstat(position) or _ROOT
                continue
            position = below
        return Walk(tuple(links), tuple(directories), position, stat)


@dataclass(frozen=True)
class Landing:
    """Where a destination lands among the image's own symlinks.

    :param path: the physical path.
    :param directories: every directory that must be there for it, without the root.
    """

    path: str
    directories: tuple[str, ...]


def land(path: str, links: Mapping[str, str], *, strict: str = "") -> Landing:
    """Walk an image's path, which need not exist yet, through the symlinks that the image will have.

    :param links: physical paths of symlinks, with their targets.
    :param strict: the declaration that names this destination; ``..`` may not leave the root for it.
    :raises ResolveError: for a loop, or for a strict destination that leaves the root.
    """
    directories: list[str] = []
    position, followed = "/", 0
    waiting = path.split("/")[::-1]
    while waiting:
        name = waiting.pop()
        if name in ("", "."):
            continue
        if position != "/" and position not in directories:
            directories.append(position)
        if name == "..":
            if position == "/" and strict:
                problem = f"{strict}: the destination {path} leaves the root through '..'"
                raise ResolveError(problem, "Name a path that stays in the image, or mend the symlink.")
            position = posixpath.dirname(position)
            continue
        below = posixpath.join(position, name)
        if below in links:
            followed += 1
            if followed > MOST_LINKS:
                problem = f"{strict or path}: {path} leads through more than {MOST_LINKS} symlinks of the image, the last of them {below}"
                raise ResolveError(problem, "Break the loop.")
            target = links[below]
            waiting.extend(target.split("/")[::-1])
            if target.startswith("/"):
                position = "/"
            continue
        position = below
    return Landing(position, tuple(directories))

"""What room is left in a jail's bounded file systems."""

from __future__ import annotations

import os

from pytest_nsjail.jail.perform import Site


def full(site: Site) -> list[str]:
    """Those without a free block, by their mount points: the throwaway layer as ``/``."""
    found = []
    places: list[tuple[str, int | str]] = [(layer.prefix or "/", layer.upper) for layer in site.layers]
    places += [(path, path) for path in site.bounded]
    for name, where in places:
        try:
            space = os.statvfs(where)
        except OSError:
            continue
        if space.f_blocks and not space.f_bavail:
            found.append(name)
    return found

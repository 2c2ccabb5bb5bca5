"""What a jail shows from outside of whoever was in it: most leave nobody and nothing, and then nobody has to be asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from pytest_nsjail.jail import processes
from pytest_nsjail.kernel.layer_scan import stamps


class Fresh(NamedTuple):
    """A layer as it was before anybody came in.

    :param directories: all that it has.
    :param stamps: theirs, see :func:`pytest_nsjail.kernel.layer_scan.stamps`; empty where these do not tell.
    """

    directories: tuple[str, ...]
    stamps: tuple[tuple[int, int] | None, ...]


class Traces:
    """Descriptors of a jail's ``/proc`` and of its layers; owned from now on.

    :param layers: what was in each layer then.
    """

    def __init__(self, proc: int, uppers: Sequence[int], layers: Sequence[Fresh]) -> None:
        self._proc, self._uppers, self._layers = proc, tuple(uppers), tuple(layers)

    def none(self) -> bool:
        """Whether for certain nobody was left by who came in, and nothing written."""
        try:
            return not processes.descended(f"/proc/self/fd/{self._proc}") and all(
                fresh.stamps and tuple(stamps(upper, fresh.directories)) == fresh.stamps for upper, fresh in zip(self._uppers, self._layers, strict=True)
            )
        except OSError:
            return False  # another may see what this process may not

    def close(self) -> None:
        """Let go of it."""
        for fd in (self._proc, *self._uppers):
            os.close(fd)
        self._uppers = ()

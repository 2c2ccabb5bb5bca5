"""What a test's process left behind, in words: its end, its processes, its files."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import TYPE_CHECKING

from pytest_nsjail.jail.status import Exited

if TYPE_CHECKING:
    from pytest_nsjail.runtime.cell import Ending

# A test that writes thousands of files is told by its first ones.
_SHOWN = 50


def died(ending: Ending, when: str) -> str:
    """Why a phase of a test has no report."""
    status = ending.status
    how = f"it exited with {status.code} (os._exit, or a library's exit)" if isinstance(status, Exited) else str(status)
    return f"the test's process died during {when}: {how}"


def leftovers(ending: Ending) -> str:
    """The processes that were still alive; empty: none."""
    return _shown([f"{process.pid:>5} {shlex.join(process.argv)}" for process in ending.leftovers])


def written(ending: Ending, carried: Collection[str]) -> str:
    """What the test wrote that is gone; empty: nothing. What Python caches is nobody's loss.

    :param carried: what is not gone.
    """
    told = (("added", ending.added), ("modified", ending.modified), ("deleted", ending.deleted))
    return _shown([f"{what:<8} {path}" for what, paths in told for path in paths if path not in carried and "__pycache__" not in path])


def _shown(lines: list[str]) -> str:
    more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join(lines[:_SHOWN] + more)

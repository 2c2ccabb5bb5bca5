"""Where cells come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_nsjail.errors import Unsupported
from pytest_nsjail.runtime.cell import Cell
from pytest_nsjail.runtime.ground import Ground
from pytest_nsjail.runtime.isolation import Isolations
from pytest_nsjail.spec.isolated import IsolatedSpec
from pytest_nsjail.spec.jail import ImageSpec

if TYPE_CHECKING:
    from pytest_nsjail.runtime.image import Image


class Cells:
    """All cells of a session.

    :param build: makes an image of its declaration.
    """

    def __init__(self, ground: Ground, build: Callable[[ImageSpec], Image]) -> None:
        self._ground = ground
        self._isolations = Isolations(ground.launcher.world, ground.launcher.ids, build)
        self._cells: list[Cell] = []

    def cell(self, spec: IsolatedSpec, *, project: str, writable: Iterable[str]) -> Cell:
        """A jail for a process that is forked from this one; see :meth:`pytest_nsjail.runtime.flow.Runtime.cell`."""
        ground = self._ground
        with ground.lock:
            isolation = self._isolations.settle(spec, project, (*writable, ground.store.directory))
            prepared = ground.launcher.prepare(spec.network, isolation.steps, isolation.maps, opened=True)
            try:
                bounds = ground.bound(spec.limits, isolation.maps, isolation.uid)
                if bounds.watch:
                    what = f"{spec.limits!r} for an isolated test: this host gives no control group for it"
                    raise Unsupported(what, "Run the code as a program, by nsjail_run(..., limits=...)")
            except BaseException:
                prepared.close()
                raise
        cell = Cell(
            prepared, world=ground.launcher.world, user=isolation.user, env=isolation.env, bounds=bounds, limits=spec.limits, project=isolation.project,
            disown=ground.enter, ahead=ground.launcher.ahead,
        )
        self._cells = [other for other in self._cells if not other.reaped()] + [cell]
        return cell

    def close(self) -> None:
        """End all that are left."""
        # A child of ours that nobody waited for would keep its jail, and that the zygote, for ever.
        for cell in self._cells:
            cell.close()

"""The next test's process: forked while the present one runs, it waits in its jail, at the begin of its set-up, until it is its turn.

It is forked from a template (:mod:`pytest_nsjail.runtime.template`), and so from pytest as it was some tests ago. That makes no difference where
nothing has happened in pytest since but that it has reported these tests: where every fixture above the test was set up by then, nothing is left to be
decided on the test, and nobody but pytest itself has a part in the protocol. Else there is none, and pytest forks the test's process when it is its turn.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from posix import _exit
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_nsjail.errors import NsjailError
from pytest_nsjail.kernel import wire
from pytest_nsjail.plugin import isolated, private
from pytest_nsjail.plugin.clock import be_ready
from pytest_nsjail.plugin.forked import Forked, forking

if TYPE_CHECKING:
    from pytest_nsjail.plugin.isolated import World
    from pytest_nsjail.plugin.split import Session
    from pytest_nsjail.runtime.template import Template

# So many tests of a module or a class, one after the other, make up for what a template takes.
_WORTH = 8


class Successor:
    """At most one at a time."""

    def __init__(self, session: Session, config: pytest.Config) -> None:
        self._session, self._config = session, config
        self._items: list[pytest.Item] = []
        # Who waits, for which item, and where that is among all.
        self._waiting: Forked | None = None
        self._item: pytest.Item | None = None
        self._place = 0
        self._template: Template | None = None
        self._world: World | None = None

    def begin(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """An item's protocol is about to begin: let its process go on, where it was forked ahead, and have that of the next forked meanwhile."""
        self._turn(item)
        if self._world_of(item) is None:
            # It may change what pytest is.
            self.close()
        elif nextitem is not None and (self._session.forked or self._is_settled(item)):
            world = self._world_of(nextitem)
            if world is not None and self._is_settled(nextitem) and self._is_ordinary():
                self._have(nextitem, world)

    def _turn(self, item: pytest.Item) -> None:
        """Let it go on who waits for this item, or will; see :meth:`pytest_nsjail.runtime.cell.Cell.has_come`."""
        if self._waiting is None:
            return
        if self._item is not item:
            self.close()
            return
        self._session.forked, self._waiting, self._item = self._waiting, None, None
        session = item.session
        stop = [session.shouldstop, session.shouldfail]
        with suppress(OSError):  # it is no more, as is seen by who wants it
            told = {"failed": session.testsfailed, "stop": stop, "screen": private.screen(self._config)}
            wire.send(self._session.forked.cell.channel, told)

    def _is_ordinary(self) -> bool:
        # A thread may do anything at any time.
        return threading.active_count() == 1 and not self._session.adaptors and private.is_ordinary(self._config)

    def _is_settled(self, item: pytest.Item) -> bool:
        return private.is_set_up(item) and private.is_unconditional(item)

    def _world_of(self, item: pytest.Item) -> World | None:
        """Where it runs; None: not isolated, or where a fixture of its own decides on that."""
        try:
            world = isolated.world(item)
        except pytest.UsageError:
            return None
        return None if world is None or world.image else world

    def _have(self, item: pytest.Item, world: World) -> None:
        """Have an item's process forked."""
        self._items = items = item.session.items
        place = self._place + 1
        if not (place < len(items) and items[place] is item):
            place = items.index(item) if item in items else len(items)
        if place >= len(items) or (self._template and world != self._world):
            return  # the template has children who run, and ends with them
        if not self._template and (place + _WORTH > len(items) or items[place + _WORTH - 1].parent is not item.parent):
            return
        # Where there can be none, that is told when it is its turn.
        with suppress(NsjailError, OSError, pytest.fail.Exception, pytest.skip.Exception):
            forked = Forked.prepared(lambda: self._session.ask_cell(world.spec), world.spec.timeout)
            try:
                if self._template is None:
                    present = self._session.forked
                    self._template, self._world = self._make_template([forked, *([present] if present else [])]), world
                forked.cell.fork_by(self._template, {"place": place, "node": item.nodeid}, forked.clock.files)
                self._place, self._item, self._waiting = place, item, forked
            except BaseException:
                forked.close()
                raise

    def _make_template(self, others: Sequence[Forked]) -> Template:
        from pytest_nsjail.runtime.template import Template

        with ExitStack() as fork:
            fork.enter_context(forking(self._config))

            def disown() -> None:
                for one in others:
                    one.disown()
                # It does not come back from there.
                fork.close()

            return Template(others[0].cell.arrival, self._run, disown)

    def _run(self, channel: socket.socket, told: dict[str, Any], given: Sequence[int]) -> NoReturn:
        """In the process: the item's protocol, which goes on in :mod:`pytest_nsjail.plugin.split`."""
        try:
            self._template = self._session.forked = None
            be_ready(given)
            place = told["place"]
            if self._items[place].nodeid != told["node"]:
                self.leave()  # somebody has changed their order since
            following = self._items[place + 1] if place + 1 < len(self._items) else None
            private.without_terminal(self._config)
            self._session.arrived = channel
            self._config.hook.pytest_runtest_protocol(item=self._items[place], nextitem=following)
        finally:
            self.leave()

    def leave(self) -> NoReturn:
        """In the process: end, where something has kept it from its set-up, as a skip does. So it will its parent, which hears that nobody has come."""
        _exit(0)

    def rest(self, item: pytest.Item) -> None:
        """A test has been torn down. Before what is above it is, nobody has anything of that any more."""
        if self._waiting is None or item.session.shouldstop or item.session.shouldfail:
            self.close()

    def disown(self) -> None:
        """In another process: leave it to its parent."""
        if self._waiting:
            self._waiting.disown()
            self._waiting = None
        if self._template:
            self._template.disown()
            self._template = None

    def close(self) -> None:
        """There is no next test. Nor does one run that was forked ahead: it would be killed."""
        waiting, self._waiting, self._item = self._waiting, None, None
        if waiting:
            waiting.close()
        template, self._template = self._template, None
        if template:
            template.close()

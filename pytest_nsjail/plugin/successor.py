"""The next test's process: forked while the present one runs, it waits in its jail, at the begin of its set-up, until it is its turn.

It is forked from a template (:mod:`pytest_nsjail.runtime.template`), and so from pytest as it was some tests ago. That makes no difference where
nothing has happened in pytest since but that it has reported these tests: where every fixture above the test was set up by then, and where nobody but
pytest itself has a part in the protocol. Else there is none, and pytest forks the test's process when it is its turn.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from posix import _exit
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_nsjail.errors import NsjailError
from pytest_nsjail.kernel import wire
from pytest_nsjail.plugin import isolated, private
from pytest_nsjail.plugin.clock import Clock, be_ready
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
        # Where the one that is waited for is among them.
        self._place = 0
        self._waiting: Forked | None = None
        self._template: Template | None = None
        self._world: World | None = None
        # Whether nobody but pytest has a part in the protocol, as of so many plugins.
        self._ordinary = 0, False

    def begin(self, item: pytest.Item, nextitem: pytest.Item | None) -> Forked | None:
        """An item's protocol is about to begin: have that of the next forked meanwhile.

        :return: the item's own process, where one has been forked; see :meth:`pytest_nsjail.runtime.cell.Cell.has_come`.
        """
        here = self._turn(item)
        if nextitem is None or not (here or self._is_settled(item)):
            return here
        world = self._world_of(nextitem)
        if world is not None and self._is_settled(nextitem) and self._is_ordinary():
            self._have(nextitem, world, here)
        return here

    def _turn(self, item: pytest.Item) -> Forked | None:
        """Let it go on who waits for this item, or will."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return None
        if self._items[self._place] is not item:
            waiting.close()
            return None
        session = item.session
        stop = [session.shouldstop, session.shouldfail]
        try:
            wire.send(waiting.cell.channel, {"failed": session.testsfailed, "stop": stop, "screen": private.screen(self._config)})
        except OSError:
            pass  # it is no more, as is seen by who wants it
        return waiting

    def _is_ordinary(self) -> bool:
        number = len(self._config.pluginmanager.list_name_plugin())
        if self._ordinary[0] != number:
            self._ordinary = number, not self._session.adaptors and private.is_ordinary(self._config)
        # A thread may do anything at any time.
        return self._ordinary[1] and threading.active_count() == 1

    def _is_settled(self, item: pytest.Item) -> bool:
        return self._world_of(item) is not None and private.is_set_up(item)

    def _world_of(self, item: pytest.Item) -> World | None:
        """Where it runs; None: not isolated, or where a fixture of its own decides on that."""
        try:
            world = isolated.world(item)
        except pytest.UsageError:
            return None
        return None if world is None or world.image else world

    def _have(self, item: pytest.Item, world: World, present: Forked | None) -> None:
        """Have an item's process forked."""
        self._items = items = item.session.items
        if not (self._template and self._place + 1 < len(items) and items[self._place + 1] is item):
            self._place = items.index(item) - 1
        if self._template and world != self._world:
            self._end_template()
        if not self._template:
            last = self._place + _WORTH
            if last >= len(items) or items[last].parent is not item.parent:
                return
        self._place += 1
        try:
            forked = Forked(self._session.ask_cell(world.spec), Clock(world.spec.timeout))
        except (NsjailError, OSError, pytest.fail.Exception, pytest.skip.Exception):
            return  # which is told when it is its turn
        try:
            if self._template is None:
                self._template, self._world = self._make_template([forked, *([present] if present else [])]), world
            forked.cell.fork_by(self._template, {"place": self._place}, forked.clock.files)
        except (NsjailError, OSError):
            forked.close()
            self._end_template()
            return
        self._waiting = forked

    def _make_template(self, others: Sequence[Forked]) -> Template:
        from pytest_nsjail.runtime.template import Template

        def disown() -> None:
            for one in others:
                one.disown()

        with forking(self._config):
            return Template(others[0].cell.arrival, self._run, disown)

    def _run(self, channel: socket.socket, told: dict[str, Any], given: Sequence[int]) -> NoReturn:
        """In the process: the item's protocol, which goes on in :mod:`pytest_nsjail.plugin.split`."""
        try:
            self._template = None
            be_ready(given)
            place = told["place"]
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
        """There is no next test."""
        waiting, self._waiting = self._waiting, None
        if waiting:
            waiting.close()
        self._end_template()

    def _end_template(self) -> None:
        template, self._template = self._template, None
        if template:
            template.close()

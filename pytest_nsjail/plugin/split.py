"""The split: an isolated item's protocol goes on in a forked child, while the parent runs the same protocol beside it.

Pytest calls ``item.setup`` when everything above the item is set up, and here it is replaced: the fixtures of higher scopes are set up, the process
forks, and the child returns into the protocol that its parent had begun. ``item.runtest`` and ``item.teardown`` are the parent's, to wait in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from posix import _exit  # not os's, see plugin.child
from socket import socket
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_nsjail.errors import NsjailError, ResolveError, SpecError
from pytest_nsjail.kernel import forks, handlers, wire
from pytest_nsjail.plugin import adaptors, brief, carrier, options, private
from pytest_nsjail.plugin.child import Child
from pytest_nsjail.plugin.clock import be_ready
from pytest_nsjail.plugin.forked import Forked, forking
from pytest_nsjail.plugin.output import Output
from pytest_nsjail.plugin.parent import Parent
from pytest_nsjail.plugin.successor import Successor

if TYPE_CHECKING:
    from pytest_nsjail.plugin.isolated import World
    from pytest_nsjail.runtime.cell import Cell
    from pytest_nsjail.spec.isolated import IsolatedSpec

_OURS = frozenset(f"pytest_nsjail.plugin.{name}" for name in ("split", "child", "private"))
_METHODS = ("setup", "runtest", "teardown")


class Split:
    """One protocol of one isolated item, with all its reruns.

    :ivar parent: this process's side, once there is a child.
    :ivar child: this process's side, in the child.
    """

    def __init__(self, item: pytest.Item, world: World, session: Session) -> None:
        self.item, self._world, self._session = item, world, session
        self.parent: Parent | None = None
        self.child: Child | None = None
        self._own = {name: getattr(item, name) for name in _METHODS}
        self._before = {name: vars(item)[name] for name in _METHODS if name in vars(item)}
        vars(item).update(setup=self._setup, runtest=self._runtest, teardown=self._teardown)

    def undo(self) -> None:
        """Let the item be what it was."""
        for name in _METHODS:
            vars(self.item).pop(name, None)
        vars(self.item).update(self._before)

    def _setup(self) -> None:
        __tracebackhide__ = True
        item, session = self.item, self._session
        self.parent = None
        session.elsewhere.look()
        private.set_up_higher(item)
        if session.arrived is not None:
            self._be_child(session.arrived, apart=True).until_its_turn()
        elif not self._part():
            assert self.parent is not None
            self.parent.phase("setup")
            return
        self._own["setup"]()

    def _part(self) -> bool:
        """Be two processes from here on.

        :return: True in the child.
        """
        __tracebackhide__ = True
        session = self._session
        output, depth = Output(self.item.config), forks.depth()
        try:
            if session.forked is not None and not session.forked.cell.has_come():
                session.give_up_forked()
            if session.forked is None:
                spec = self._spec()
                session.forked = Forked.prepared(lambda: session.cell(spec), self._world.spec.timeout)
                for adaptor in session.adaptors:
                    adaptor.parent_before(self.item)
                cell, clock = session.forked
                # Until each of the two knows who it is.
                with handlers.held():
                    if self._fork(cell):
                        be_ready(clock.files)
                        output.close()
                        self._be_child(cell.channel, apart=output.apart)
                        return True
        except BaseException as error:
            if self.child is None and forks.depth() != depth:
                self._not_begun(error)
            output.close()
            session.give_up_forked()
            raise
        forked, session.forked = session.forked, None
        output.step_aside()
        session.elsewhere.leave_out()
        self.parent = Parent(self.item, *forked, output, session.adaptors, strict=session.strict, died=session.elsewhere.bring_back)
        return False

    def _not_begun(self, error: BaseException) -> NoReturn:
        """In a child that is none yet: it must not go on as a second pytest."""
        try:
            forked = self._session.forked
            if forked is not None:
                wire.send(forked.cell.channel, {"refused": f"begin the test in it: {error!r}", "errno": 0})
        finally:
            _exit(1)

    def _fork(self, cell: Cell) -> bool:
        """Have a child of this process's.

        :return: True in the child.
        """
        __tracebackhide__ = True
        try:
            with forking(self.item.config):
                child = cell.fork()
        except NsjailError as error:
            options.unavailable(self.item.config, error)
        if child:
            self._session.successor.disown()
        return child

    def _be_child(self, channel: socket, *, apart: bool) -> Child:
        self.undo()
        self.child = Child(self.item, channel, self._session.adaptors, self._session.hooks, self._world.spec, apart=apart)
        self._session.forked = None
        return self.child

    def _runtest(self) -> None:
        __tracebackhide__ = True
        if self.parent:
            self.parent.phase("call")

    def _teardown(self) -> None:
        __tracebackhide__ = True
        if self.child:
            self._own["teardown"]()
        elif self.parent:
            try:
                self.parent.phase("teardown")
            finally:
                self._session.successor.rest(self.item)

    def _spec(self) -> IsolatedSpec:
        """The declaration, with the image that its fixture has."""
        from pytest_nsjail.spec.jail import ImageSpec

        name, spec = self._world.image, self._world.spec
        if not name:
            return spec
        scope = private.fixture_scope(self.item, name)
        if scope is None or scope == "function":
            problem = "there is no such fixture" if scope is None else "it is function-scoped, and would be set up inside"
            instead = "Write the name of a fixture of session, package, module or class scope that returns nsjail_image(...)."
            carrier.fail(f"pytest.mark.isolated(image={name!r}): {problem}. {instead}")
        value = private.fixture(self.item, name)
        image = getattr(value, "spec", value)
        if not isinstance(image, ImageSpec):
            carrier.fail(f"pytest.mark.isolated(image={name!r}): the fixture gave {value!r}, which is no image. Let it return nsjail_image(...).")
        return dataclasses.replace(spec, image=image)


class Session:
    """What all isolated items of a session share; its hooks are in pytest's from the first of them on.

    :param runtime: gives what makes jails, or ends the test.
    :ivar forked: the process that was forked ahead for the present item.
    :ivar arrived: in such a process, its socket to its parent.
    """

    def __init__(self, config: pytest.Config, runtime: Any) -> None:
        self._config, self.runtime = config, runtime
        self.adaptors = adaptors.active(config)
        self.strict = config.getini("nsjail_leftovers") == "fail"
        self.hooks: list[private.Alone] = []
        self.elsewhere = private.Elsewhere(config)
        self.successor = Successor(self, config)
        self.forked: Forked | None = None
        self.arrived: socket | None = None
        self._split: Split | None = None
        self._writable = [path for path in [private.base_temp(config)] if path]

    def register(self) -> None:
        """Join pytest's hooks."""
        manager = self._config.pluginmanager
        manager.register(self, "nsjail-split")
        manager.register(Seen(self), "nsjail-seen")
        self.hooks = [private.Alone(self._config, hook, self) for hook in ("pytest_runtest_logreport", "pytest_warning_recorded")]

    def begin(self, item: pytest.Item, world: World) -> Split:
        """An isolated item's protocol begins."""
        self._split = Split(item, world, self)
        return self._split

    def end(self) -> None:
        """It ends."""
        # Where it was not wanted, for this process has not come to the item's set-up.
        self.give_up_forked()
        if self._split:
            if self._split.parent:
                self._split.parent.give_up()
                self.elsewhere.bring_back()
            self._split.undo()
            self._split = None

    @property
    def in_child(self) -> bool:
        """Whether this process is a test's own."""
        return self._split is not None and self._split.child is not None

    def give_up_forked(self) -> None:
        """End the process that was forked for the present item, where there is one that nobody has taken."""
        forked, self.forked = self.forked, None
        if forked:
            forked.close()

    def ask_cell(self, spec: IsolatedSpec) -> Cell:
        """A jail for a test.

        :raises NsjailError: where there can be none.
        """
        cell: Cell = self.runtime().cell(spec, project=str(self._config.rootpath), writable=self._writable)
        return cell

    def cell(self, spec: IsolatedSpec) -> Cell:
        """The same for the test that runs; where there can be none, this is its end."""
        try:
            return self.ask_cell(spec)
        except (SpecError, ResolveError) as error:
            # A mistake to mend, and no reason to skip.
            options.fail(error)
        except NsjailError as error:
            options.unavailable(self._config, error)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
        # Around all others: nothing of this item has begun.
        if self.arrived is None:
            self.successor.begin(item, nextitem)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        self.give_up_forked()
        self.successor.close()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        split = self._split
        if split is None or split.item is not item:
            return (yield)
        if split.parent:
            return (yield from split.parent.make_report(call))
        if not split.child and self.arrived is not None:
            self.successor.leave()
        if not split.child and call.when == "setup":
            # It was never set up, as where it is skipped, and what is above it may be torn down next.
            self.give_up_forked()
            self.successor.rest(item)
        if call.excinfo is not None:
            # Whatever way it is shown, it is shown as if nothing of this had been between.
            call.excinfo = brief.without(call.excinfo, _OURS)
        return (yield from split.child.make_report(call)) if split.child else (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._split and self._split.child:
            self._split.child.log_report(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> None:
        if self._split and self._split.child:
            self._split.child.set_up(fixturedef, request)

    def pytest_enter_pdb(self) -> None:
        if self._split and self._split.child:
            self._split.child.debugger()


class Seen:
    """The innermost hook: what other plugins' wrappers see of a child's report."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> pytest.TestReport | None:
        split = self._session._split
        return split.parent.seen(call) if split and split.parent and split.item is item else None

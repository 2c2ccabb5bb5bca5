"""The split: an isolated item's protocol goes on in a forked child, while the parent runs the same protocol beside it.

Pytest calls ``item.setup`` when everything above the item is set up, and here it is replaced: the fixtures of higher scopes are set up, the process
forks, and the child returns into the protocol that its parent had begun. ``item.runtest`` and ``item.teardown`` are the parent's, to wait in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import warnings
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nsjail.errors import NsjailError
from pytest_nsjail.plugin import adaptors, brief, carrier, options, private
from pytest_nsjail.plugin.child import Child
from pytest_nsjail.plugin.clock import Clock
from pytest_nsjail.plugin.output import Output
from pytest_nsjail.plugin.parent import Parent

if TYPE_CHECKING:
    from pytest_nsjail.plugin.isolated import World
    from pytest_nsjail.runtime import Runtime
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
        runtime = session.runtime()
        cell = session.cell(runtime, self._spec())
        clock = Clock(self._world.spec.timeout)
        output = Output(item.config)
        try:
            for adaptor in session.adaptors:
                adaptor.parent_before(item)
            for stream in (sys.stdout, sys.stderr, private.writer(item.config)):
                if stream is not None:
                    stream.flush()
            with _no_word_of_threads():
                forked = cell.fork()
        except NsjailError as error:
            for one in (clock, output, cell):
                one.close()
            options.unavailable(item.config, error)
        except BaseException:
            for one in (clock, output, cell):
                one.close()
            raise
        if forked:
            self.undo()
            clock.child()
            self.child = Child(item, cell.channel, session.adaptors, session.hooks, output)
            self._own["setup"]()
            return
        output.step_aside()
        session.elsewhere.leave_out()
        self.parent = Parent(item, cell, clock, output, session.adaptors, strict=session.strict, died=session.elsewhere.bring_back)
        self.parent.phase("setup")

    def _runtest(self) -> None:
        __tracebackhide__ = True
        if self.parent:
            self.parent.phase("call")

    def _teardown(self) -> None:
        __tracebackhide__ = True
        if self.child:
            self._own["teardown"]()
        elif self.parent:
            self.parent.phase("teardown")

    def _spec(self) -> IsolatedSpec:
        """The declaration, with the image that its fixture has."""
        name, spec = self._world.image, self._world.spec
        if not name:
            return spec
        scope = private.fixture_scope(self.item, name)
        if scope is None or scope == "function":
            problem = "there is no such fixture" if scope is None else "it is function-scoped, and would be set up inside"
            instead = "Write the name of a fixture of session, package, module or class scope that returns nsjail_image(...)."
            carrier.fail(f"pytest.mark.isolated(image={name!r}): {problem}. {instead}")
        image = private.fixture(self.item, name)
        return dataclasses.replace(spec, image=getattr(image, "spec", image))


@contextlib.contextmanager
def _no_word_of_threads() -> Iterator[None]:
    """Python warns of a fork with threads, since 3.12: they are pytest's or its plugins', and the child does without them."""
    if sys.version_info < (3, 12):
        yield
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield


class Session:
    """What all isolated items of a session share; its hooks are in pytest's from the first of them on.

    :param runtime: gives what makes jails, or ends the test.
    """

    def __init__(self, config: pytest.Config, runtime: Any) -> None:
        self._config, self.runtime = config, runtime
        self.adaptors = adaptors.active(config)
        self.strict = config.getini("nsjail_leftovers") == "fail"
        self.hooks: list[private.Alone] = []
        self.elsewhere = private.Elsewhere(config)
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

    def cell(self, runtime: Runtime, spec: IsolatedSpec) -> Any:
        """A jail for the next test."""
        try:
            return runtime.cell(spec, project=str(self._config.rootpath), writable=self._writable)
        except NsjailError as error:
            options.unavailable(self._config, error)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        split = self._split
        if split is None or split.item is not item:
            return (yield)
        if split.parent:
            return (yield from split.parent.make_report(call))
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

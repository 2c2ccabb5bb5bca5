"""The one place that knows what pytest does not promise: its set-up stack, its fixture requests, and who implements a hook.

There is no public way to any of it. :func:`missing` looks whether it is all there, in this version of pytest.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import _pytest.capture
import _pytest.fixtures
import _pytest.nodes
import _pytest.reports
import _pytest.runner
import pytest
from _pytest.outcomes import TEST_OUTCOME as ERRORS
from _pytest.runner import check_interactive_exception as interactive

try:
    from _pytest.subtests import failed_subtests_key
except ImportError:
    failed_subtests_key = None  # type: ignore[assignment]  # before pytest 9

__all__ = ["ERRORS", "interactive"]

Section = tuple[str, str, str]
# Where a report has whose it is.
NODE_ID = frozenset(("nodeid", "_id"))
_LIVE = ("_when", "_first_record_emitted", "_section_name_shown", "_test_outcome_written")


def missing(config: pytest.Config) -> list[str]:
    """What this version of pytest lacks of what is used here; empty: nothing."""
    state = _pytest.runner.SetupState
    request = _pytest.fixtures.FixtureRequest
    there = {
        "_pytest.runner.SetupState.addfinalizer": hasattr(state, "addfinalizer"),
        "_pytest.runner.SetupState.setup": hasattr(state, "setup"),
        "_pytest.runner.SetupState.teardown_exact": hasattr(state, "teardown_exact"),
        "_pytest.runner.show_test_item": hasattr(_pytest.runner, "show_test_item"),
        "_pytest.fixtures.FixtureRequest._get_active_fixturedef": hasattr(request, "_get_active_fixturedef"),
        "_pytest.fixtures.TopRequest._fillfixtures": hasattr(getattr(_pytest.fixtures, "TopRequest", None), "_fillfixtures"),
        "_pytest.fixtures.FixtureDef.scope": hasattr(_pytest.fixtures.FixtureDef, "scope"),
        "_pytest.fixtures.FixtureDef.cached_result": "cached_result" in _pytest.fixtures.FixtureDef.__init__.__code__.co_names,
        "_pytest.runner.SetupState.stack": "stack" in state.__init__.__code__.co_names,
        "_pytest.capture.FDCapture._state": "_state" in _pytest.capture.FDCapture.suspend.__code__.co_names,
        "_pytest.capture.CaptureManager.suspend": hasattr(_pytest.capture.CaptureManager, "suspend"),
        "_pytest.capture.CaptureManager.global_and_fixture_disabled": hasattr(_pytest.capture.CaptureManager, "global_and_fixture_disabled"),
        "Item._report_sections": "_report_sections" in _pytest.nodes.Item.add_report_section.__code__.co_names,
        "Session._setupstate": "_setupstate" in _pytest.runner.pytest_runtest_setup.__code__.co_names,
        "HookCaller._hookimpls": isinstance(getattr(config.hook.pytest_runtest_logreport, "_hookimpls", None), list),
    }
    return [name for name, is_there in there.items() if not is_there]


def higher(item: pytest.Item) -> Iterator[str]:
    """The names of an item's fixtures that outlive it, in the order in which pytest sets them up."""
    definitions = getattr(getattr(item, "_request", None), "_arg2fixturedefs", {})
    # A parametrization says how long its values live, whatever the fixture says.
    told = getattr(getattr(item, "callspec", None), "_arg2scope", {})

    # Outside of a class, what is of a class's scope is of the function's.
    short = ("function", None) if item.getparent(pytest.Class) else ("function", "class", None)

    def outlives(name: str) -> bool:
        return (told[name].value if name in told else fixture_scope(item, name)) not in short

    for name in getattr(item, "fixturenames", ()):
        if outlives(name) and (name not in told or all(outlives(other) for other in definitions[name][-1].argnames if other in definitions)):
            yield name


def set_up_higher(item: pytest.Item) -> None:
    """Set up an item's fixtures that outlive it, in the way of pytest itself: by its own frames, should one fail."""
    __tracebackhide__ = True
    some: Any = item
    if not hasattr(item, "fixturenames"):
        return
    # pytest-asyncio asks for what has the event loop as late as in the item's own set-up.
    runner = f"_{getattr(item, '_loop_scope', '')}_scoped_runner"
    if hasattr(item, "_loop_scope") and runner not in some.fixturenames and fixture_scope(item, runner):
        some.fixturenames.append(runner)
    _finish_others(item)
    names = set(higher(item))
    if not names:
        return
    # What there is an argument for already is not set up.
    others = [name for name in some.fixturenames if name not in names and name not in some.funcargs]
    some.funcargs.update(dict.fromkeys(others))
    try:
        if type(item).setup.__module__ in ("_pytest.python", "_pytest.unittest"):
            type(item).setup(item)
        else:
            some._request._fillfixtures()
    finally:
        for name in others:
            some.funcargs.pop(name, None)
    if runner not in names and runner in some.fixturenames:
        for name in _definition(item, runner).argnames:
            if fixture_scope(item, name) not in ("function", None):
                fixture(item, name)


def _finish_others(item: pytest.Item) -> None:
    """Tear down what a parametrization puts another value in the place of, for this item alone: it was set up here, for more than an item."""
    request: Any = getattr(item, "_request", None)
    callspec: Any = getattr(item, "callspec", None)
    for name, scope in getattr(callspec, "_arg2scope", {}).items() if request else ():
        definition = _definition(item, name)
        if scope.value != "function" or definition is None or definition.scope == "function" or definition.cached_result is None:
            continue
        param, index = callspec.params[name], callspec.indices[name]
        sub = _pytest.fixtures.SubRequest(request, scope, param, index, definition, _ispytest=True)
        if definition.cached_result[1] is not definition.cache_key(sub):
            definition.finish(sub)


def fixture(item: pytest.Item, name: str) -> Any:
    """The value of a fixture as the item gets it, set up where it is not yet."""
    request: Any = item._request  # type: ignore[attr-defined]
    return request._get_active_fixturedef(name).cached_result[0]


def fixture_scope(item: pytest.Item, name: str) -> str | None:
    """How long a fixture lives; None: there is none of this name, or the item has no fixtures at all."""
    found = _definition(item, name)
    return found.scope if found else None


def _definition(item: pytest.Item, name: str) -> Any:
    request: Any = getattr(item, "_request", None)
    if not request:
        return None
    found = request._arg2fixturedefs.get(name) or request._fixturemanager.getfixturedefs(name, item)
    return found[-1] if found else None


def later_finalizers(item: pytest.Item) -> dict[Any, list[Callable[[], object]]]:
    """What every node above an item is given to be torn down by, from now on. Pytest's own lists may be changed by others, as by pytest-rerunfailures."""
    state: Any = item.session._setupstate
    own = state.addfinalizer
    later: dict[Any, list[Callable[[], object]]] = {node: [] for node in item.listchain()[:-1]}

    def addfinalizer(finalizer: Callable[[], object], node: object) -> None:
        own(finalizer, node)
        if node in later:
            later[node].append(finalizer)

    state.addfinalizer = addfinalizer
    return later


def hold_teardown(item: pytest.Item, around: Callable[[Callable[[Any], None], object], None]) -> None:
    """From now on, tearing down is what ``around`` makes of pytest's own way, which takes the next item, and that item."""
    state: Any = item.session._setupstate
    own = state.teardown_exact

    def teardown_exact(nextitem: object) -> None:
        __tracebackhide__ = True
        around(own, nextitem)

    state.teardown_exact = teardown_exact


def sections(item: pytest.Item) -> list[Section]:
    """What was captured of an item so far: when, what, text."""
    return item._report_sections


def title(section: Section) -> tuple[str, str]:
    """The same as pytest names it in a report."""
    when, key, text = section
    return f"Captured {key} {when}", text


def tear_down(item: pytest.Item) -> None:
    """Tear down what is set up for the item, as at a session's end."""
    item.session._setupstate.teardown_exact(None)


class Alone:
    """A hook that has one implementation, or none, when that is wanted.

    :param plugin: whose it is.
    """

    def __init__(self, config: pytest.Config, hook: str, plugin: object) -> None:
        self._caller: Any = getattr(config.hook, hook)
        self._kept = [one for one in self._caller._hookimpls if one.plugin is plugin]
        self._all: list[Any] = []

    def now(self) -> None:
        """Take all others out. In a forked process they are not even looked at: each look copies a page."""
        self._all, self._caller._hookimpls = self._caller._hookimpls, self._kept


class Elsewhere:
    """Hooks of conftest.py files that a test's own process calls, and that are not called here a second time.

    Plugins are not meant: what they do with the set-up state, or with a phase's output, they have to do in both.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._callers: list[Any] = [config.hook.pytest_runtest_call, config.hook.pytest_runtest_teardown]
        self._away: list[tuple[Any, list[Any], list[Any]]] = []

    def look(self) -> None:
        """See who they are; before a fork, after which each look would copy a page."""
        self.bring_back()
        for caller in self._callers:
            whole = caller._hookimpls
            some = [one for one in whole if not one.plugin_name.endswith("conftest.py")]
            if len(some) < len(whole):
                self._away.append((caller, whole, some))

    def leave_out(self) -> None:
        """From now on."""
        for caller, _, some in self._away:
            caller._hookimpls = some

    def bring_back(self) -> None:
        """Until now; who has come or gone in between has."""
        for caller, whole, some in self._away:
            if caller._hookimpls is some:
                known, there = set(map(id, whole)), set(map(id, some))
                stay = [one for one in whole if id(one) in there or one.plugin_name.endswith("conftest.py")]
                whole[:] = stay + [one for one in some if id(one) not in known]
                caller._hookimpls = whole
        self._away = []


# Of all that calls or is called from the protocol of an item.
_PROTOCOL = (
    "pytest_runtest_protocol", "pytest_runtest_logstart", "pytest_runtest_setup", "pytest_runtest_call", "pytest_runtest_teardown", "pytest_runtest_makereport",
    "pytest_runtest_logreport", "pytest_runtest_logfinish", "pytest_fixture_setup", "pytest_fixture_post_finalizer", "pytest_warning_recorded",
    "pytest_exception_interact", "pytest_report_teststatus", "pytest_report_to_serializable", "pytest_report_from_serializable",
)


def is_ordinary(config: pytest.Config) -> bool:
    """Whether nobody but pytest itself has a part in the protocol of an item, and nothing of it is to be seen as it happens."""
    live, timeout = config.pluginmanager.get_plugin("logging-plugin"), config.pluginmanager.hasplugin("faulthandler")
    if any(getattr(config.option, name, False) for name in ("setupshow", "setuponly", "setupplan", "usepdb", "trace", "lsof")):
        return False
    if hasattr(config, "workerinput") or (timeout and float(config.getini("faulthandler_timeout") or 0)) or (live and live._log_cli_enabled()):
        return False
    capture = getattr(config.pluginmanager.get_plugin("capturemanager"), "_global_capturing", None)
    if any(type(getattr(capture, name, None)) is not _pytest.capture.FDCapture for name in ("out", "err")):
        return False
    callers: Any = [getattr(config.hook, name) for name in _PROTOCOL]
    return all(one.function.__module__.startswith(("_pytest.", "pytest_nsjail.")) for caller in callers for one in caller._hookimpls)


def is_set_up(item: pytest.Item) -> bool:
    """Whether everything above an item is set up, so that nothing is left to do but for the item alone."""
    state: Any = item.session._setupstate
    if list(state.stack) != item.listchain()[:-1]:
        return False
    definitions = {name: _definition(item, name) for name in higher(item)}
    # Each of them without a parameter: else another may be wanted.
    results = [one and one.cached_result for one in definitions.values()]
    if any(result is None or result[1] is not None or result[2] is not None for result in results):
        return False
    told = getattr(getattr(item, "callspec", None), "_arg2scope", {})
    return all(scope.value == "function" and getattr(_definition(item, name), "scope", "function") == "function" for name, scope in told.items())


def is_unconditional(item: pytest.Item) -> bool:
    """Whether no marker has still to decide whether an item is run, or what its failure means."""
    marks = [mark for mark in item.iter_markers() if mark.name in ("skip", "skipif", "xfail")]
    told = [(*mark.args, mark.kwargs.get("condition", True), mark.kwargs.get("run", True)) for mark in marks]
    return all(mark.name == "xfail" for mark in marks) and all(type(one) is bool for some in told for one in some)


def without_terminal(config: pytest.Config) -> None:
    """From now on the terminal is not told that an item begins: it has been."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    caller: Any = config.hook.pytest_runtest_logstart
    caller._hookimpls = [one for one in caller._hookimpls if one.plugin is not reporter]


def base_temp(config: pytest.Config) -> str:
    """The directory that all ``tmp_path`` are in; empty: there is none."""
    factory = getattr(config, "_tmp_path_factory", None)
    return str(factory.getbasetemp()) if factory else ""


def quiet_item(config: pytest.Config) -> None:
    """Let ``--setup-show`` say nothing of items: somebody else says it."""
    if config.getoption("setupshow", False):
        _pytest.runner.show_test_item = lambda item, **kwargs: None


def writer(config: pytest.Config) -> Any:
    """The terminal's writer; None where nothing is written to a terminal."""
    return getattr(config.pluginmanager.get_plugin("terminalreporter"), "_tw", None)


def screen(config: pytest.Config) -> list[Any]:
    """What the terminal's writer and the live log remember of what they have written."""
    terminal, live = writer(config), getattr(config.pluginmanager.get_plugin("logging-plugin"), "log_cli_handler", None)
    return [getattr(terminal, "_current_line", ""), *(getattr(live, name, None) for name in _LIVE)]


def set_screen(config: pytest.Config, told: list[Any]) -> None:
    """Remember what another process has written to the same terminal."""
    terminal, live = writer(config), getattr(config.pluginmanager.get_plugin("logging-plugin"), "log_cli_handler", None)
    if hasattr(terminal, "_current_line"):
        terminal._current_line = str(told[0])
    for name, value in zip(_LIVE, told[1:], strict=True):
        if hasattr(live, name):
            setattr(live, name, value)


def capturing(config: pytest.Config) -> bool:
    """Whether output is captured right now."""
    capture = getattr(config.pluginmanager.get_plugin("capturemanager"), "_global_capturing", None)
    return capture is not None and capture.is_started()


class Stream:
    """A stream whose descriptor pytest captures, to a file.

    :ivar file: the file's descriptor.
    """

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        self.file: int = capture.tmpfile.fileno()

    def direct(self, file: int) -> None:
        """Capture it to another file, from now on."""
        os.dup2(file, self.file, inheritable=False)
        if self._capture._state == "started":
            os.dup2(file, self._capture.targetfd)


def captured_streams(config: pytest.Config) -> list[Stream]:
    """Where all output is captured right now; none where some of it is to be seen as it comes: with ``--setup-show``, or by any other way of capturing."""
    capture = getattr(config.pluginmanager.get_plugin("capturemanager"), "_global_capturing", None)
    both = (getattr(capture, "out", None), getattr(capture, "err", None))
    if config.getoption("setupshow", False) or any(type(one) is not _pytest.capture.FDCapture or one._state != "started" for one in both):
        return []
    return [Stream(one) for one in both]


def before_uncaptured(config: pytest.Config, before: Callable[[], None]) -> None:
    """Call ``before`` whenever capturing is about to stop for a while, as it is for all that is written to the terminal during a test."""
    manager: Any = config.pluginmanager.get_plugin("capturemanager")

    def first(name: str) -> Callable[..., Any]:
        own = getattr(manager, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            before()
            return own(*args, **kwargs)

        return method

    for name in ("suspend", "global_and_fixture_disabled"):
        setattr(manager, name, first(name))


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """Write to the terminal, for a while."""
    manager: Any = config.pluginmanager.get_plugin("capturemanager")
    return manager.global_and_fixture_disabled() if manager else nullcontext()


def failed_subtests(item: pytest.Item) -> int:
    """How many subtests of an item have failed: by this count pytest lets the test fail that they are of."""
    counts, key = _subtests(item)
    return counts.get(key, 0)


def node_id(item: pytest.Item) -> Any:
    """By what pytest knows an item: since 9.2 a structured id, which all its reports share."""
    known = getattr(item, "id", None)
    return known if str(known) == item.nodeid else item.nodeid


def set_failed_subtests(item: pytest.Item, number: int) -> None:
    """Know what was counted elsewhere."""
    counts, key = _subtests(item)
    counts[key] = number


def _subtests(item: pytest.Item) -> tuple[dict[Any, int], Any]:
    if failed_subtests_key is None:
        return {}, ""
    # 9.2 counts by a structured id.
    return item.config.stash.get(failed_subtests_key, {}), getattr(item, "id", item.nodeid)


def set_subtest(report: Any, data: dict[str, Any]) -> None:
    """Let a subtest's values be shown as they were: pytest takes their representations for values, and represents these."""
    context, told = getattr(report, "context", None), data.get("_subtest.context")
    if isinstance(told, dict) and isinstance(getattr(context, "kwargs", None), dict):
        object.__setattr__(context, "kwargs", told["kwargs"])


def mark(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> pytest.MarkDecorator:
    """A marker by its name; it was checked where it was first made."""
    return pytest.MarkDecorator(pytest.Mark(name, args, kwargs, _ispytest=True), _ispytest=True)


def record_warning(message: warnings.WarningMessage) -> None:
    """Let a warning be recorded, or shown, as if it had just come through its filters."""
    warnings.showwarning(message.message, message.category, message.filename, message.lineno, None, message.line)

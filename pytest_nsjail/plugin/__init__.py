"""The pytest plugin: hooks and fixtures, no mechanism.

Importing it costs what pytest has already paid: everything else is imported by the first fixture that needs it, so that it loads on every system.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import pytest

from pytest_nsjail.plugin import adaptors, brief, hookspec, isolated, options, summary
from pytest_nsjail.plugin.record import Record

if TYPE_CHECKING:
    from pytest_nsjail.jail.keeper import Keeper
    from pytest_nsjail.network.network import Network
    from pytest_nsjail.plugin.split import Session
    from pytest_nsjail.runtime import Runtime
    from pytest_nsjail.runtime.image import Image
    from pytest_nsjail.runtime.jail import Jail
    from pytest_nsjail.runtime.result import Result
    from pytest_nsjail.spec.jail import JailSpec

Scope = Literal["session", "module", "class", "function"]

_RECORD = pytest.StashKey[Record]()
_ITEM = pytest.StashKey[pytest.Item]()
_RUNTIME = pytest.StashKey["Runtime | Callable[[], NoReturn]"]()
_SESSION = pytest.StashKey["Session"]()
_KEEPER = pytest.StashKey["Keeper"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspec)


def pytest_configure(config: pytest.Config) -> None:
    options.check(config)
    config.stash[_RECORD] = Record()
    config.addinivalue_line("markers", isolated.MARKER)
    every = isolated.everything(config)
    adaptors.configure(config, every=every)
    if every:
        _check_pytest(config)


def _check_pytest(config: pytest.Config) -> None:
    from pytest_nsjail.plugin import private

    if missing := private.missing(config):
        what = f"pytest {pytest.__version__} has no {', no '.join(missing)}, which isolated tests need"
        raise pytest.UsageError(f"{what}. Update pytest-nsjail, or use pytest 8.4 to 9.2.")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # A worker of pytest-xdist cannot say it: there each test says it for itself.
    if not hasattr(config, "workerinput") and isolated.check(items):
        _check_pytest(config)


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if not config.getoption("--nsjail-doctor"):
        return None
    from pytest_nsjail.plugin.doctor import doctor

    # Nothing is configured yet, and nothing has to be: no reporter, no capture.
    return doctor(lambda line: sys.stdout.write(f"{line}\n"), options.doctors_store(config))


def pytest_report_header(config: pytest.Config) -> str:
    if not sys.platform.startswith("linux"):
        return f"nsjail: unavailable: jails are made of Linux namespaces, and this is {sys.platform}"
    from pytest_nsjail.kernel.probe import quick

    return quick()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    # What is made once for all isolated tests is not on the time of the first: its limit may be a short one.
    if not session.config.option.collectonly and isolated.any_of(session.items):
        with suppress(pytest.fail.Exception, pytest.skip.Exception):
            _prepare(session.config)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.config.stash[_RECORD].begin()
    item.config.stash[_ITEM] = item
    try:
        world = isolated.world(item)
        session = _session(item.config) if world else None
    except pytest.UsageError as error:
        with isolated.refused(item, error):
            return (yield)
    if world is None or session is None:
        return (yield)
    split = session.begin(item, world)
    try:
        result = yield
    except BaseException as error:
        if split.child:
            split.child.leave(error)
        raise
    finally:
        session.end()
    if split.child:
        split.child.leave(None)
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Those of tests that passed as well: the reporter keeps all.
    if left := summary.lines([report for reports in terminalreporter.stats.values() for report in reports]):
        terminalreporter.section("processes that isolated tests left running, killed", sep="-", yellow=True)
        for line in left:
            terminalreporter.line(line)


def _session(config: pytest.Config) -> Session:
    """What isolated tests share; made for the first of them."""
    if _SESSION not in config.stash:
        _check_pytest(config)
        from pytest_nsjail.plugin.split import Session

        session = Session(config, lambda: _runtime(config))
        config.stash[_SESSION] = session
        session.register()
    return config.stash[_SESSION]


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        # Fixtures of the session are torn down by now, and may have used it.
        runtime = session.config.stash.get(_RUNTIME, None)
        if runtime is not None and not callable(runtime):
            del session.config.stash[_RUNTIME]
            runtime.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if not item.config.getoption("fulltrace", False):
        brief.cut(call)
    report = yield
    if report.failed:
        item.config.stash[_RECORD].attach(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(config: pytest.Config, report: pytest.CollectReport | pytest.TestReport) -> Generator[None, object, object]:
    data = yield
    # On its way from a test's own process a text may be what it is.
    plain = not report.failed or (_SESSION in config.stash and config.stash[_SESSION].in_child)
    return data if plain else brief.encodable(data)


def _hooks(config: pytest.Config) -> Any:
    """The hooks as the running test sees them: those of a conftest.py are for the tests beside and below it."""
    return config.stash[_ITEM].ihook if _ITEM in config.stash else config.hook


def _adjusted(config: pytest.Config, spec: JailSpec) -> JailSpec:
    """What the ``pytest_nsjail_spec`` hooks make of a declaration, each of what the one before it made."""
    from pytest_nsjail.errors import SpecError

    for hook in reversed(_hooks(config).pytest_nsjail_spec.get_hookimpls()):
        if hook.wrapper or hook.hookwrapper:
            continue
        known = {"config": config, "spec": spec}
        changed = hook.function(*(known[name] for name in hook.argnames))
        if changed is not None and not isinstance(changed, type(spec)):
            raise SpecError(f"pytest_nsjail_spec in {hook.plugin_name}", f"it returned {changed!r}", "Return dataclasses.replace(spec, ...), or None.")
        spec = changed or spec
    return spec


def _runtime(config: pytest.Config) -> Runtime:
    """What makes jails, for the whole session; where it cannot be had, every test that wants it ends in the same way."""
    if _RUNTIME not in config.stash:
        # What interrupts it, as a time limit may, is no answer for the tests that come.
        config.stash[_RUNTIME] = _started(config)
    runtime = config.stash[_RUNTIME]
    if callable(runtime):
        runtime()
    return runtime


def _prepare(config: pytest.Config) -> None:
    """Make what isolated tests will want."""
    from pytest_nsjail.errors import SetupError

    if sys.platform.startswith("linux"):
        with suppress(SetupError):  # it is tried again, and told
            _keeper(config)
        # While it starts.
        from pytest_nsjail.plugin import split  # noqa: F401
    _runtime(config)


def _started(config: pytest.Config) -> Runtime | Callable[[], NoReturn]:
    """What makes jails, or what ends a test that wants it."""
    from pytest_nsjail.errors import NsjailError, SetupError, Unsupported

    if not sys.platform.startswith("linux"):
        what = f"jails are made of Linux namespaces, and this is {sys.platform}"
        return partial(options.unavailable, config, Unsupported(what, "Run this test on Linux, or set nsjail_unavailable = skip."))
    try:
        keeper = _keeper(config)
    except SetupError as error:
        return partial(options.unavailable, config, error)
    # From now on it is the runtime's.
    del config.stash[_KEEPER]
    from pytest_nsjail.runtime import Runtime

    def finished(spec: JailSpec, result: Result) -> None:
        config.stash[_RECORD].finished(spec, result)
        _hooks(config).pytest_nsjail_finished(config=config, spec=spec, result=result)

    try:
        echo = options.echo(config)
        runtime = Runtime(options.store(config), adjust=lambda spec: _adjusted(config, spec), finished=finished, echo=echo, keeper=keeper)
    except NsjailError as error:
        keeper.close()
        # A store that cannot be used is a mistake to mend, and no reason to skip.
        return partial(options.unavailable, config, error) if isinstance(error, Unsupported) else partial(options.fail, error)
    try:
        runtime.begin()
    except SetupError as error:
        runtime.close()
        return partial(options.unavailable, config, error)
    except BaseException:
        runtime.close()
        raise
    return runtime


def _keeper(config: pytest.Config) -> Keeper:
    """The first of the processes that make jails, which nobody has yet.

    :raises SetupError: where it cannot be executed.
    """
    if _KEEPER not in config.stash:
        from pytest_nsjail.jail.keeper import Keeper

        config.stash[_KEEPER] = Keeper()
    return config.stash[_KEEPER]


@pytest.fixture(scope="session")
def _nsjail(request: pytest.FixtureRequest) -> Runtime:
    from pytest_nsjail.errors import SetupError, Unsupported

    runtime = _runtime(request.config)
    try:
        runtime.check()
    except (SetupError, Unsupported) as error:
        options.unavailable(request.config, error)
    return runtime


@pytest.fixture(scope="session")
def nsjail_image(_nsjail: Runtime) -> Callable[..., Image]:
    """Build an image from what it depends on: ``nsjail_image(*dependencies, env=, workdir=, user=, entrypoint=, cmd=, name=)``.

    Dependencies: Elf, Script, File, Tree, Text, Symlink, Directory, Users, Groups, Copy. The image is kept in the store, by its content.
    """
    return _nsjail.image


@pytest.fixture(scope="session")
def nsjail_run(_nsjail: Runtime) -> Callable[..., Result]:
    """Run a program in a jail of its own and wait for its end: ``nsjail_run(argv, image=, mounts=, env=, workdir=, user=, ...)``.

    Also: stdin=, limits=, timeout=, network=, hostname=, devices=, check=, read_only=. Without an image, the closure of argv[0] is the image.
    """
    return _nsjail.run


def _starting(name: str, scope: Scope, end: str) -> Callable[..., Generator[Callable[..., Jail], None, None]]:
    """The fixture of one scope."""

    def starting(_nsjail: Runtime, request: pytest.FixtureRequest) -> Generator[Callable[..., Jail], None, None]:
        record = request.config.stash[_RECORD]
        # Each is stopped, the last one first, also where another cannot be.
        with ExitStack() as jails:

            def start(*args: Any, **kwargs: Any) -> Jail:
                jail = _nsjail.start(*args, **kwargs)
                # After its end, which is told where it is known.
                jails.callback(record.stopped, jail)
                jails.enter_context(jail)
                record.started(jail)
                return jail

            yield start

    # What ``pytest --fixtures`` shows.
    starting.__doc__ = f"""Start a program in a jail of its own and return when it is ready; it is stopped at the end of the {end}.

    With the arguments of ``nsjail_run``, and ready=, publish=, activate=, name=, ipc=: ``{name}(argv, publish={{6379: 0}}, ready=Listening(6379))``.
    """
    return pytest.fixture(starting, scope=scope, name=name)


nsjail_start = _starting("nsjail_start", "function", "test")
nsjail_start_class = _starting("nsjail_start_class", "class", "class")
nsjail_start_module = _starting("nsjail_start_module", "module", "module")
nsjail_start_session = _starting("nsjail_start_session", "session", "session")


def _joining(name: str, scope: Scope, end: str) -> Callable[..., Generator[Callable[..., Network], None, None]]:
    """The fixture of one scope."""

    def joining(_nsjail: Runtime, request: pytest.FixtureRequest) -> Generator[Callable[..., Network], None, None]:
        record = request.config.stash[_RECORD]
        with ExitStack() as networks:

            def network(name: str | None = None) -> Network:
                made = networks.enter_context(_nsjail.network(name))
                record.watch(made)
                return made

            yield network

    what = "Make a network for several jails, that reach each other by name and nothing else"
    joining.__doc__ = f"""{what}: ``nsjail_network(name=None)``; it is closed at the end of the {end}.

    A jail joins it by ``network=net, name="db"``; ``net.partition``, ``net.isolate``, ``net.heal`` and ``net.shape`` are what is done to it.
    """
    return pytest.fixture(joining, scope=scope, name=name)


nsjail_network = _joining("nsjail_network", "function", "test")
nsjail_network_class = _joining("nsjail_network_class", "class", "class")
nsjail_network_module = _joining("nsjail_network_module", "module", "module")
nsjail_network_session = _joining("nsjail_network_session", "session", "session")

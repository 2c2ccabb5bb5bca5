"""The pytest plugin: hooks, no mechanism.

Importing it costs what pytest has already paid: everything else is imported by the first fixture that needs it, so that it loads on every system.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pytest_nsjail.plugin import adaptors, brief, engine, hookspec, isolated, options, summary
from pytest_nsjail.plugin.record import RECORD, Record

if TYPE_CHECKING:
    from pytest_nsjail.plugin.split import Session

pytest_plugins = ["pytest_nsjail.plugin.fixtures"]

_SESSION = pytest.StashKey["Session"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspec)


def pytest_configure(config: pytest.Config) -> None:
    options.check(config)
    config.stash[RECORD] = Record()
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
            engine.begin(session.config)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.config.stash[RECORD].begin()
    item.config.stash[engine.ITEM] = item
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

        session = Session(config, lambda: engine.runtime(config))
        config.stash[_SESSION] = session
        session.register()
    return config.stash[_SESSION]


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        # Fixtures of the session are torn down by now, and may have used it.
        engine.end(session.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if not item.config.getoption("fulltrace", False):
        brief.cut(call)
    report = yield
    if report.failed:
        item.config.stash[RECORD].attach(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(config: pytest.Config, report: pytest.CollectReport | pytest.TestReport) -> Generator[None, object, object]:
    data = yield
    # On its way from a test's own process a text may be what it is.
    plain = not report.failed or (_SESSION in config.stash and config.stash[_SESSION].in_child)
    return data if plain else brief.encodable(data)

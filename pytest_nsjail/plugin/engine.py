"""What makes jails, for a whole session of pytest: made when it is first wanted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_nsjail.plugin import options
from pytest_nsjail.plugin.record import RECORD

if TYPE_CHECKING:
    from pytest_nsjail.jail.keeper import Keeper
    from pytest_nsjail.runtime import Runtime
    from pytest_nsjail.runtime.result import Result
    from pytest_nsjail.spec.jail import JailSpec

# The test that runs.
ITEM = pytest.StashKey[pytest.Item]()
_RUNTIME = pytest.StashKey["Runtime | Callable[[], NoReturn]"]()
_KEEPER = pytest.StashKey["Keeper"]()


def begin(config: pytest.Config) -> None:
    """Make what isolated tests will want."""
    from pytest_nsjail.errors import SetupError

    if sys.platform.startswith("linux"):
        with suppress(SetupError):  # it is tried again, and told
            _keeper(config)
        # While it starts.
        from pytest_nsjail.plugin import split  # noqa: F401
    runtime(config)


def runtime(config: pytest.Config) -> Runtime:
    """What makes jails, for the whole session; where it cannot be had, every test that wants it ends in the same way."""
    if _RUNTIME not in config.stash:
        # What interrupts it, as a time limit may, is no answer for the tests that come.
        config.stash[_RUNTIME] = _started(config)
    made = config.stash[_RUNTIME]
    if callable(made):
        made()
    return made


def end(config: pytest.Config) -> None:
    """Close it, where there is one."""
    made = config.stash.get(_RUNTIME, None)
    if made is not None and not callable(made):
        del config.stash[_RUNTIME]
        made.close()


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
        config.stash[RECORD].finished(spec, result)
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


def _hooks(config: pytest.Config) -> Any:
    """The hooks as the running test sees them: those of a conftest.py are for the tests beside and below it."""
    return config.stash[ITEM].ihook if ITEM in config.stash else config.hook


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

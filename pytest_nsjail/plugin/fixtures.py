"""The fixtures. What they give is the runtime's; here it is kept for a failed test's report, and ended with a scope."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_nsjail.plugin import engine, options
from pytest_nsjail.plugin.record import RECORD

if TYPE_CHECKING:
    from pytest_nsjail.network.network import Network
    from pytest_nsjail.runtime import Runtime
    from pytest_nsjail.runtime.image import Image
    from pytest_nsjail.runtime.jail import Jail
    from pytest_nsjail.runtime.result import Result

Scope = Literal["session", "module", "class", "function"]


@pytest.fixture(scope="session")
def _nsjail(request: pytest.FixtureRequest) -> Runtime:
    from pytest_nsjail.errors import SetupError, Unsupported

    runtime = engine.runtime(request.config)
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
        record = request.config.stash[RECORD]
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
        record = request.config.stash[RECORD]
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

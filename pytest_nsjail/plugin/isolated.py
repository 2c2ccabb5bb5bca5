"""Which tests are isolated, and in what world: marker over option over ini."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from pytest_nsjail.spec.isolated import IsolatedSpec

MARKER = (
    "isolated(isolate=True, *, image=None, network='none', writable=(), limits=None, timeout=None, env=None, user=None, hostname='nsjail'): "
    "run the test in a jail of its own; isolated(False) exempts it from --nsjail."
)
_ARGUMENTS = ("image", "network", "writable", "limits", "timeout", "env", "user", "hostname")


class World(NamedTuple):
    """Where an isolated test runs.

    :param spec: as declared, without the image of a fixture.
    :param image: the name of the fixture that has the image; empty: there is none.
    """

    spec: IsolatedSpec
    image: str


_WORLDS = pytest.StashKey[dict[int, tuple[object, "World | None"]]]()


def everything(config: pytest.Config) -> bool:
    """Whether tests without a marker are isolated."""
    return bool(config.getoption("--nsjail")) or config.getini("nsjail_isolate") == "all"


def world(item: pytest.Item) -> World | None:
    """Where an item runs; None: where pytest runs.

    :raises pytest.UsageError: for a marker that cannot be meant, naming the test, the argument and what to write instead.
    """
    mark = item.get_closest_marker("isolated")
    if mark is None and not everything(item.config):
        return None
    # Tests share their marks, and a mark never changes; who keeps it here keeps its id from being given anew.
    known = item.config.stash.setdefault(_WORLDS, {})
    if id(mark) not in known:
        known[id(mark)] = mark, _declared(item, mark)
    return known[id(mark)][1]


def _declared(item: pytest.Item, mark: pytest.Mark | None) -> World | None:
    from pytest_nsjail.errors import SpecError
    from pytest_nsjail.spec.isolated import IsolatedSpec

    if mark is None:
        return World(IsolatedSpec.declared(), "")
    arguments = dict(mark.kwargs)
    positional = (*mark.args, *([arguments.pop("isolate")] if "isolate" in arguments else []))
    if len(positional) > 1 or not all(isinstance(one, bool) for one in positional):
        given = ", ".join(map(repr, positional))
        raise _refused(item, f"isolated({given}) takes one positional argument, True or False", "Write the rest by name: isolated(image='node').")
    for name in arguments:
        if name not in _ARGUMENTS:
            raise _refused(item, f"isolated() has no argument {name!r}", f"It has: {', '.join(_ARGUMENTS)}.")
    if positional == (False,):
        if arguments:
            raise _refused(item, f"isolated(False, {next(iter(arguments))}=...) says both", "Leave out False, or the rest.")
        return None
    image = _image(arguments)
    try:
        return World(IsolatedSpec.declared(**arguments), image)
    except SpecError as error:
        raise _refused(item, error.problem, error.instead) from None


def _image(arguments: dict[str, Any]) -> str:
    """Take the name of a fixture out of what was given; an image that there is already becomes its declaration."""
    image = arguments.get("image")
    if isinstance(image, str):
        del arguments["image"]
        return image
    elif image is not None and hasattr(image, "spec"):
        arguments["image"] = image.spec
    return ""


def _refused(item: pytest.Item, problem: str, instead: str) -> pytest.UsageError:
    return pytest.UsageError(f"{item.nodeid}: pytest.mark.isolated: {problem}. {instead}")


def check(items: list[pytest.Item]) -> bool:
    """Look at every marker, before any test is run.

    :return: whether anything is isolated.
    :raises pytest.UsageError: for those that cannot be meant.
    """
    found, wrong = False, []
    for item in items:
        try:
            found = world(item) is not None or found
        except pytest.UsageError as error:
            wrong.append(str(error))
    if wrong:
        raise pytest.UsageError(*wrong)
    return found


def any_of(items: list[pytest.Item]) -> bool:
    """Whether any is isolated, as far as its marker can be meant."""
    for item in items:
        with contextlib.suppress(pytest.UsageError):
            if world(item):
                return True
    return False


@contextlib.contextmanager
def refused(item: pytest.Item, error: pytest.UsageError) -> Iterator[None]:
    """Let the set-up of an item fail by an error's words."""

    def setup() -> None:
        raise pytest.fail.Exception(str(error), pytrace=False)

    vars(item)["setup"] = setup
    try:
        yield
    finally:
        vars(item).pop("setup", None)

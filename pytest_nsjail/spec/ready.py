"""When a started program counts as ready: conditions, as values that check themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING

from pytest_nsjail.errors import SpecError
from pytest_nsjail.spec import check
from pytest_nsjail.spec.check import StrPath

if TYPE_CHECKING:
    from typing import Any as Anything

TIMEOUT = 30.0


class Condition(check.Declared):
    """What all conditions are."""

    __slots__ = ()

    timeout: float

    def __repr__(self) -> str:
        # As one would write it, and so without what is as it is unless told.
        told = [(one, value) for one in fields(self) if (value := getattr(self, one.name)) != one.default]  # type: ignore[arg-type]
        said = [repr(value) if one.default is MISSING else f"{one.name}={value!r}" for one, value in told]
        return f"{type(self).__name__}({', '.join(said)})"

    def _check_timeout(self) -> None:
        object.__setattr__(self, "timeout", check.seconds(repr(self), "timeout", self.timeout))


@dataclass(frozen=True, repr=False)
class Listening(Condition):
    """Somebody in the jail listens on a TCP port.

    :param port: which.
    :param host: at this address, in figures; None: where :meth:`Jail.dial` would find it: at 127.0.0.1 or all addresses, else at ::1.
    :param timeout: seconds until it is an error.
    :param patient: whether all that time is given to a server that seems to have settled at another place.

    To listen is not to be ready: a server may still load what it needs. :class:`Http`, :class:`Log` and :class:`Notify` say more, and a port that
    is listened on for the program (``activate=``) says nothing.

    A server that listens at another place is an error as soon as it has settled there. That is where everybody in the jail has slept: no thread has
    run but for a hundredth of a processor, or waited for a disk or for a time to come (nanosleep(2)), no process has come or gone, and nobody has begun
    to listen. For half a second where somebody listens on this port, and ``host`` (127.0.0.1 and ::1, unless told) does not reach him; for three
    seconds where somebody listens on a port that neither ``publish``, ``activate`` nor ``ready`` names; not in :meth:`Jail.until`. A jail in which
    nobody listens has all its time.
    """

    port: int
    host: str | None = None
    timeout: float = TIMEOUT
    patient: bool = False

    def __post_init__(self) -> None:
        check.port(repr(self), "it", self.port)
        _check_patient(self, self.patient)
        if self.host is not None:
            check.address(repr(self), "host", self.host)
        self._check_timeout()


@dataclass(frozen=True, repr=False)
class Log(Condition):
    """The program has written something that matches, to its standard output or error.

    :param pattern: a regular expression (:mod:`re`), searched in each stream as a whole; ``^`` and ``$`` are a line's.
    :param timeout: seconds until it is an error.
    """

    pattern: str
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        pattern = getattr(self.pattern, "pattern", self.pattern)
        object.__setattr__(self, "pattern", check.text(repr(self), "the pattern", pattern))
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise SpecError(repr(self), f"{self.pattern!r} is no regular expression: {error}", "Escape what is meant as it stands: re.escape(text).") from None
        self._check_timeout()


@dataclass(frozen=True, repr=False)
class Http(Condition):
    """A GET is answered with a status.

    :param port: of the server, in the jail.
    :param path: what is asked for.
    :param status: what is to be answered, 100 to 599.
    :param timeout: seconds until it is an error.
    :param patient: as :class:`Listening`'s.

    Nobody is asked before the port is listened on, at 127.0.0.1, else at ::1; a request is waited for until it is answered, and one that is answered
    otherwise is made again, after 20 ms at first and half a second at last.
    """

    port: int
    path: str = "/"
    status: int = 200
    timeout: float = TIMEOUT
    patient: bool = False

    def __post_init__(self) -> None:
        check.port(repr(self), "it", self.port)
        if not check.text(repr(self), "the path", self.path).startswith("/") or any(ord(one) <= 32 for one in self.path):
            raise SpecError(repr(self), f"the path {self.path!r} cannot be asked for", "Write it as in a URL, from its slash on: '/health'.")
        if not isinstance(self.status, int) or isinstance(self.status, bool) or not 100 <= self.status <= 599:
            raise SpecError(repr(self), f"status {self.status!r} is none of HTTP's", "Write a number from 100 to 599.")
        _check_patient(self, self.patient)
        self._check_timeout()


@dataclass(frozen=True, repr=False)
class Notify(Condition):
    """The program says ``READY=1`` to the socket that ``$NOTIFY_SOCKET`` names (sd_notify(3)).

    :param timeout: seconds until it is an error.
    """

    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        self._check_timeout()


@dataclass(frozen=True, repr=False)
class Unix(Condition):
    """Somebody in the jail listens on a unix socket.

    :param path: its path in the jail, or ``@name`` for an abstract name (unix(7)).
    :param timeout: seconds until it is an error.
    """

    path: StrPath
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        path = check.text(repr(self), "the path", self.path)
        object.__setattr__(self, "path", path if path.startswith("@") else check.inside(repr(self), "the path", path))
        self._check_timeout()


@dataclass(frozen=True, repr=False)
class Exec(Condition):
    """A command, executed in the jail again and again, exits with 0.

    :param argv: the command.
    :param timeout: seconds until it is an error.
    """

    argv: tuple[str, ...]
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        argv = check.argv("Exec()", self.argv)
        object.__setattr__(self, "argv", argv)
        if not argv or not argv[0]:
            raise SpecError(repr(self), "there is no command", "Write its arguments: Exec(['/bin/pg_isready']).")
        self._check_timeout()


def _check_patient(condition: Condition, patient: object) -> None:
    if not isinstance(patient, bool):
        raise SpecError(repr(condition), f"patient is {patient!r}", "Write True or False.")


class _Several(Condition):
    __slots__ = ()

    conditions: tuple[Ready, ...]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.conditions))})"

    def _check(self) -> None:
        name = type(self).__name__
        if not self.conditions:
            raise SpecError(f"{name}()", "there is no condition in it", f"Write them: {name}(Listening(6379), Log('ready')).")
        object.__setattr__(self, "conditions", tuple(condition(f"{name}()", one) for one in self.conditions))


@dataclass(frozen=True, init=False, repr=False)
class All(_Several):
    """Every one of several conditions is true; each has its own time."""

    conditions: tuple[Ready, ...]

    def __init__(self, *conditions: Ready) -> None:
        object.__setattr__(self, "conditions", conditions)
        self._check()


@dataclass(frozen=True, init=False, repr=False)
class Any(_Several):
    """One of several conditions is true; each has its own time."""

    conditions: tuple[Ready, ...]

    def __init__(self, *conditions: Ready) -> None:
        object.__setattr__(self, "conditions", conditions)
        self._check()


# A callable gets the jail, and is asked again until what it returns is true.
Ready = Listening | Log | Http | Notify | Unix | Exec | All | Any | Callable[["Anything"], object]


def condition(declaration: str, value: object) -> Ready:
    """A condition that may be meant.

    :raises SpecError: for anything else.
    """
    if isinstance(value, type) or not (isinstance(value, Condition) or callable(value)):
        instead = "Write Listening(port), Log(pattern), Http(port), Notify(), Unix(path), Exec(argv), All(...), Any(...), or a function of the jail."
        raise SpecError(declaration, f"{value!r} is no condition", instead)
    return value  # type: ignore[return-value]


def ports(value: Ready | None) -> Iterable[int]:
    """The ports that a condition is about."""
    if isinstance(value, (Listening, Http)):
        yield value.port
    elif isinstance(value, (All, Any)):
        for one in value.conditions:
            yield from ports(one)


def notified(value: Ready | None) -> bool:
    """Whether a program is to say itself that it is ready."""
    return isinstance(value, Notify) or (isinstance(value, (All, Any)) and any(map(notified, value.conditions)))

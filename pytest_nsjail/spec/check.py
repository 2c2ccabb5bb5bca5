"""The checks that every declared value makes of itself: paths, names, sizes, numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_nsjail.errors import SpecError

if TYPE_CHECKING:
    from typing_extensions import Self

StrPath = str | PathLike[str]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"([0-9]+)([KMG]?)")
# What sethostname(2) and RFC 1123 allow together.
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
# (uid_t) -1 means "no change" to chown(2) and setresuid(2), so that it is nobody's id.
LARGEST_ID = 2**32 - 2


class Declared:
    """A value that a user writes by name: an option that it does not have is an error that lists those it has."""

    __slots__ = ()

    def __new__(cls, *_: object, **options: object) -> Self:
        known = getattr(cls, "__dataclass_fields__", options)
        for name, value in options.items():
            if name not in known:
                raise SpecError(f"{cls.__name__}(..., {name}={value!r})", f"there is no option {name!r}", f"It takes {', '.join(known)}.")
        return super().__new__(cls)


def known(declaration: str, given: Iterable[str], names: Iterable[str]) -> None:
    """That nothing was given by a name that there is not."""
    names = tuple(names)
    for name in given:
        if name not in names:
            raise SpecError(declaration, f"there is no argument {name!r}", f"It takes {', '.join(names)}.")


def encodable(declaration: str, what: str, value: str) -> str:
    """A string that has bytes: UTF-8, where a surrogate from U+DC80 to U+DCFF stands for a byte that is none (PEP 383)."""
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        problem = f"{what} {value!r} holds half a character, U+{ord(value[error.start]):04X}"
        raise SpecError(declaration, problem, "Write whole characters; a byte that is no UTF-8 is written as os.fsdecode() gives it.") from None
    return value


def sequence(declaration: str, what: str, value: object, example: str) -> tuple[object, ...]:
    """Several values: any iterable but a string, which would be its letters."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise SpecError(declaration, f"{what} is {value!r}", f"Write a list: {what}=[{example}].")
    return tuple(value)


def text(declaration: str, what: str, value: object) -> str:
    """A string (or a path object) that is not empty and that the kernel can take."""
    if isinstance(value, PathLike):
        value = value.__fspath__()
    if not isinstance(value, str):
        raise SpecError(declaration, f"{what} is {type(value).__name__} {value!r}", "Write a string.")
    if not value:
        raise SpecError(declaration, f"{what} is empty", "Write it out.")
    if "\0" in value:
        raise SpecError(declaration, f"{what} {value!r} holds a NUL byte", "No name of the kernel's can: leave it out.")
    return encodable(declaration, what, value)


def source(declaration: str, value: object) -> str:
    """A path of the host: absolute, ``.`` and doubled slashes removed.

    ``..`` stays: behind a symlink it means what the file system says, not what the letters say.
    """
    given = text(declaration, "the source", value)
    if not given.startswith("/"):
        raise SpecError(declaration, f"the source {given!r} is not absolute", f"Write it from the root: '/.../{given}'.")
    return "/" + str(PurePosixPath(given)).lstrip("/")


def inside(declaration: str, what: str, value: object, *, root: bool = False) -> str:
    """A path inside a jail: absolute and normal, and not the root itself unless ``root``."""
    given = text(declaration, what, value)
    if not given.startswith("/"):
        raise SpecError(declaration, f"{what} {given!r} is not absolute", f"Write it from the jail's root: '/{given}'.")
    if ".." in given.split("/"):
        raise SpecError(declaration, f"{what} {given!r} holds '..'", "Write where it is, without the detour.")
    normal = "/" + str(PurePosixPath(given)).lstrip("/")
    if normal == "/" and not root:
        raise SpecError(declaration, f"{what} is the root itself", "Name a path below it.")
    return normal


def permissions(declaration: str, value: object) -> int:
    """Permission bits, 0 to 0o7777."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0o7777:
        raise SpecError(declaration, f"mode {value!r} is not permission bits", "Write an octal number: 0o644.")
    return value


def size(declaration: str, what: str, value: object) -> int:
    """A number of bytes above 0: an int, or digits with K, M or G."""
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise SpecError(declaration, f"{what}={value!r} is not a size", f"Write bytes or K, M, G: {what}='256M'.")
        number = int(match[1]) * _UNITS[match[2]]
    if not 0 < number < 2**63:
        raise SpecError(declaration, f"{what}={value!r} is not above 0 and below 2**63", f"Write {what}='256M', or leave it out for no limit.")
    return number


def count(declaration: str, what: str, value: object) -> int:
    """A whole number above 0."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise SpecError(declaration, f"{what}={value!r} is not a whole number above 0", f"Write {what}=64, or leave it out for no limit.")
    return value


def port(declaration: str, what: str, value: object) -> int:
    """The number of a port, 1 to 65535."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 16:
        raise SpecError(declaration, f"{what} names the port {value!r}", "Write a whole number from 1 to 65535.")
    return value


def address(declaration: str, what: str, value: object) -> str:
    """An IP address in figures."""
    import ipaddress

    given = text(declaration, what, value)
    try:
        ipaddress.ip_address(given)
    except ValueError:
        raise SpecError(declaration, f"{what}={given!r} is no address", "Write it in figures: '127.0.0.1', '::1'.") from None
    return given


def seconds(declaration: str, what: str, value: object) -> float:
    """A time above 0, in seconds."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 2**31:
        raise SpecError(declaration, f"{what}={value!r} is not a number of seconds above 0", f"Write {what}=10, or leave it out for no limit.")
    return float(value)


def identity(declaration: str, name: str, value: object) -> int:
    """A uid or gid."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_ID:
        raise SpecError(declaration, f"{name}={value!r} is no id", f"Write a number from 0 to {LARGEST_ID}: {name}=500.")
    return value


def account(declaration: str, what: str, name: str) -> str:
    """A user's or a group's name: what passwd(5) can hold in one field."""
    text(declaration, what, name)
    if ":" in name or "\n" in name or "/" in name or name[0] in "-+" or name.isdigit():
        raise SpecError(declaration, f"{name!r} cannot be {what}", "Write a name that passwd(5) can hold: 'nodeuser'.")
    return name


def user(declaration: str, value: object) -> str:
    """Who a program runs as: ``name``, ``uid``, ``name:group`` or ``uid:gid``, normalised to a string."""
    if isinstance(value, int):
        return str(identity(declaration, "user", value))
    given = text(declaration, "the user", value)
    name, colon, group = given.partition(":")
    for part in (name, group) if colon else (name,):
        if part.isascii() and part.isdigit():
            identity(declaration, "user", int(part))
        else:
            account(declaration, "a user", part)
    return given


def argv(declaration: str, value: object) -> tuple[str, ...]:
    """An argument list: strings or path objects, none with a NUL byte; empty strings are arguments too."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise SpecError(declaration, f"argv is {value!r}", "Write a list of strings: ['/usr/bin/git', '--version'].")
    arguments = []
    for item in value:
        given = item.__fspath__() if isinstance(item, PathLike) else item
        if not isinstance(given, str):
            raise SpecError(declaration, f"argv holds {given!r}, a {type(given).__name__}", "Write every argument as a string.")
        if "\0" in given:
            raise SpecError(declaration, f"argv holds {given!r} with a NUL byte", "The kernel ends an argument there: leave it out.")
        arguments.append(encodable(declaration, "an argument", given))
    return tuple(arguments)


def environment(declaration: str, value: object) -> tuple[tuple[str, str], ...]:
    """Variables as pairs, in the order given."""
    if not isinstance(value, Mapping):
        raise SpecError(declaration, f"env is {value!r}", "Write a dict: env={'PORT': '3000'}.")
    for name, setting in value.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise SpecError(declaration, f"env holds the name {name!r}", "Write a name without '=' and NUL bytes.")
        if not isinstance(setting, str) or "\0" in setting:
            raise SpecError(declaration, f"env sets {name} to {setting!r}", f"Write a string without NUL bytes: {name!r}: '3000'.")
        encodable(declaration, "a name of env", name)
        encodable(declaration, f"{name} of env", setting)
    return tuple(value.items())


def hostname(declaration: str, value: object) -> str:
    """A host name of at most 64 characters (HOST_NAME_MAX, gethostname(2))."""
    given = text(declaration, "the hostname", value)
    if not _HOSTNAME.fullmatch(given):
        raise SpecError(declaration, f"hostname {given!r} is none", "Write up to 64 letters, digits, '-' and '.': 'db.test'.")
    return given

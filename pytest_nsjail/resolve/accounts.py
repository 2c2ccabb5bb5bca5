"""The account files: passwd(5) and group(5), made of declarations and read again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.spec.dependency import Groups, Users

PASSWD, GROUP = "/etc/passwd", "/etc/group"
# The user and the group of whom the kernel knows the number, with or without a file.
_ROOT = ["root", "x", "0", "0"]


@dataclass(frozen=True)
class Accounts:
    """The text of both files; empty for a file that nobody declared."""

    passwd: str
    group: str


def merge(declarations: Iterable[Users | Groups]) -> Accounts:
    """One line for each name, by number: a user brings a group of its own name and number.

    :raises ResolveError: for one name with two numbers.
    """
    users: dict[str, tuple[int, str]] = {}
    groups: dict[str, tuple[int, str]] = {}
    for declaration in declarations:
        for name, number in declaration.ids:
            for kind, known in (("user", users), ("group", groups))[isinstance(declaration, Groups) :]:
                first, by = known.setdefault(name, (number, repr(declaration)))
                if first != number:
                    raise ResolveError(
                        f"the {kind} {name} is {first} in {by} and {number} in {declaration!r}", "Declare it once; a user's group has the user's number."
                    )
    return Accounts(
        "".join(f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, (number, _) in _by_number(users)),
        "".join(f"{name}:x:{number}:\n" for name, (number, _) in _by_number(groups)),
    )


def _by_number(known: dict[str, tuple[int, str]]) -> list[tuple[str, tuple[int, str]]]:
    return sorted(known.items(), key=lambda item: (item[1][0], item[0]))


def lookup_user(passwd_text: str, group_text: str, user: str) -> tuple[int, int, tuple[int, ...]]:
    """The uid, the gid and the supplementary groups that a program runs with.

    :param passwd_text: the image's ``/etc/passwd``, empty for none.
    :param group_text: the image's ``/etc/group``, empty for none.
    :param user: ``name``, ``uid``, ``name:group`` or ``uid:gid``. A uid without a line has a gid of the same number, and ``root`` without one is 0.
    :raises ResolveError: for a name that the image does not have.
    """
    passwd = _lines(passwd_text, 4)
    groups = _lines(group_text, 3)
    given, colon, wanted = user.partition(":")
    if given.isdigit():
        line = next((line for line in passwd if int(line[2]) == int(given)), None)
        name, uid, gid = (line[0], int(line[2]), int(line[3])) if line else ("", int(given), int(given))
    else:
        line = next((line for line in passwd if line[0] == given), _ROOT if given == "root" else None)
        if line is None:
            raise ResolveError(f"user={user!r}: {_nobody('user', given, passwd, PASSWD)}", f"Declare Users({given}=500), or write a number.")
        name, uid, gid = line[0], int(line[2]), int(line[3])
    if colon:  # a group that is named replaces the primary one, and the supplementary ones with it, as docker run --user does
        return uid, _group(user, wanted, groups), ()
    member = {int(line[2]) for line in groups if len(line) > 3 and name and name in line[3].split(",")}
    return uid, gid, tuple(sorted(member - {gid}))


def _group(user: str, wanted: str, groups: list[list[str]]) -> int:
    if wanted.isdigit():
        return int(wanted)
    line = next((line for line in groups if line[0] == wanted), _ROOT if wanted == "root" else None)
    if line is None:
        raise ResolveError(f"user={user!r}: {_nobody('group', wanted, groups, GROUP)}", f"Declare Groups({wanted}=500), or write a number.")
    return int(line[2])


def _nobody(kind: str, name: str, lines: list[list[str]], file: str) -> str:
    known = ", ".join(line[0] for line in lines)
    return f"the image has no {kind} {name!r}; its {file} has {known}" if known else f"the image has no {kind} {name!r}; it has no {file} that names one"


def _lines(text: str, fields: int) -> list[list[str]]:
    """The lines that are whole: enough fields, and a number where one belongs."""
    split = (line.split(":") for line in text.splitlines() if not line.startswith("#"))
    return [line for line in split if len(line) >= fields and all(field.isdigit() for field in line[2 : min(fields, 4)])]

"""What the kernel and env(1) make of a script's first line (fs/binfmt_script.c)."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

# BINPRM_BUF_SIZE less the NUL: what follows is cut off (since Linux 5.1).
LONGEST_LINE = 255
# bprm.recursion_depth: a script may be the interpreter of a script, five times in a row.
DEEPEST = 5
_ASSIGNMENT = re.compile(r"[^=]+=.*", re.DOTALL)


class BadShebang(ValueError):
    """A first line that starts nothing. The message is a clause about the script."""


@dataclass(frozen=True)
class Shebang:
    """A script's first line.

    :param interpreter: the path after ``#!``, as written.
    :param argument: all that follows it, which is one argument; empty for none.
    """

    interpreter: str
    argument: str = ""

    @property
    def runs_env(self) -> bool:
        return posixpath.basename(self.interpreter) == "env"


def parse(head: bytes) -> Shebang | None:
    """Read the beginning of a file; None where it is no script.

    :raises BadShebang: for ``#!`` without an interpreter, or with one that is cut off.
    """
    if not head.startswith(b"#!"):
        return None
    line, newline, _ = head[: LONGEST_LINE + 1].partition(b"\n")
    if not newline:
        line = line[:LONGEST_LINE]
        if len(head) > LONGEST_LINE and not re.search(rb"[^ \t][ \t]", line[2:].lstrip(b" \t")):
            raise BadShebang(f"its first line is longer than {LONGEST_LINE} bytes, and the kernel would cut the interpreter's name")
    parts = line[2:].strip(b" \t").split(b"\0")[0].decode("utf-8", "surrogateescape")
    interpreter, _, argument = re.sub(r"[ \t]", " ", parts, count=1).partition(" ")
    if not interpreter:
        raise BadShebang("its first line is '#!' without an interpreter")
    return Shebang(interpreter, argument.strip(" \t"))


def carriage_return(shebang: Shebang) -> bool:
    """Whether the line ended in CR LF, so that the kernel looks for a file whose name ends in CR."""
    return (shebang.argument or shebang.interpreter).endswith("\r")


def env_program(argument: str) -> str | None:
    """The command that ``#!/usr/bin/env ARGUMENT`` runs; None for none: it would only print the environment.

    :raises BadShebang: where env would not find it, because it gets one argument only.
    """
    if not argument:
        return None
    if argument.startswith("-"):
        split = re.fullmatch(r"-[iv0]*S\s*(.*)|--split-string[= ]\s*(.*)", argument, re.DOTALL)
        if not split:
            # "-i sh" arrives as one argument, whose letters are read as options.
            if " " in argument:
                raise BadShebang(f"env gets {argument!r} as one argument. Write #!/usr/bin/env -S {argument}")
            raise BadShebang(f"env {argument} runs nothing")
        try:
            words = shlex.split(split[1] if split[1] is not None else split[2], comments=True)
        except ValueError as error:
            raise BadShebang(f"env -S cannot split {argument!r}: {error}") from None
        return _command(words)
    if _ASSIGNMENT.fullmatch(argument):
        return None
    if re.search(r"\s", argument):
        raise BadShebang(f"env gets {argument!r} as one argument and looks for a program of that name. Write #!/usr/bin/env -S {argument}")
    return argument


def _command(words: Iterable[str]) -> str | None:
    """The first word that is neither an option of env(1) with its value nor an assignment."""
    waiting = iter(words)
    for word in waiting:
        if word in ("-u", "--unset", "-C", "--chdir"):
            next(waiting, None)
        elif not word.startswith("-") and not _ASSIGNMENT.fullmatch(word):
            return word
        elif word == "--":
            return next(waiting, None)
    return None

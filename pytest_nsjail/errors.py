"""Every error this package raises, and whose fault each one names."""

from __future__ import annotations

import os


class NsjailError(Exception):
    """The base of every error of this package."""


class SpecError(NsjailError, ValueError):
    """A declaration that cannot be meant: it names the declaration, the value and what to write instead.

    :param declaration: what the user wrote, as code: ``Elf('bin/true')``.
    :param problem: what is wrong with it, as a clause: ``the source is not absolute``.
    :param instead: what to write instead, as a sentence.
    """

    def __init__(self, declaration: str, problem: str, instead: str) -> None:
        super().__init__(f"{declaration}: {problem}. {instead}")
        self.declaration = declaration
        self.problem = problem
        self.instead = instead


class ResolveError(NsjailError):
    """A declaration that is well-formed, but that this host cannot satisfy.

    :param problem: what is missing or contradictory, and who wants it.
    :param instead: the way out, as a sentence: most often the declaration that would help.
    """

    def __init__(self, problem: str, instead: str = "") -> None:
        super().__init__(f"{problem}. {instead}" if instead else problem)
        self.problem = problem
        self.instead = instead


class StartError(NsjailError):
    """A program that the kernel or its loader refused to start, in words.

    :param program: the path that was executed, as seen inside the jail.
    :param problem: why it cannot start.
    :param instead: the declaration that would help.
    :param errno: what ``execve(2)`` said, or None when the program's loader gave up after it.
    """

    def __init__(self, program: str, problem: str, instead: str = "", errno: int | None = None) -> None:
        super().__init__(f"{program} cannot start: {problem}. {instead}".rstrip())
        self.program = program
        self.problem = problem
        self.instead = instead
        self.errno = errno


class SetupError(NsjailError):
    """A step of making a jail that the kernel refused.

    :param step: the step in words, as :func:`pytest_nsjail.jail.steps.describe` gives it.
    :param errno: the kernel's answer, or None where it gave none.
    :param advice: the way out on this host.
    """

    def __init__(self, step: str, errno: int | None = None, advice: str = "") -> None:
        said = f" ({os.strerror(errno)}, errno {errno})" if errno else ""
        super().__init__(f"cannot make the jail: {step}{said}. {advice}".rstrip())
        self.step = step
        self.errno = errno
        self.advice = advice


class JailEnded(SetupError):
    """Something that takes a running jail, asked of one that runs no more.

    :param what: what was asked for, and what became of the jail.
    """

    def __init__(self, what: str) -> None:
        NsjailError.__init__(self, what)
        self.step, self.errno, self.advice = what, None, ""


class NotReady(NsjailError):
    """A program that ended before it was ready, or was not ready in time.

    :param what: what was waited for, and what there was instead: several lines for a person.
    :param condition: what was waited for.
    :param status: how it ended; None where it ran on.
    """

    def __init__(self, what: str, condition: object, status: object = None) -> None:
        super().__init__(what)
        self.condition = condition
        self.status = status


class Unsupported(NsjailError):
    """Something this host cannot give, so that it was not tried.

    :param what: what was asked for.
    :param advice: the way out.
    """

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}. {advice}")
        self.what = what
        self.advice = advice


class ProgramFailed(NsjailError):
    """A program that ran under ``check=True`` (or in a stage) and did not exit with 0."""

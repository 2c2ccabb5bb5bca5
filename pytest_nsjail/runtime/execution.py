"""One more program in a jail that runs, from its start to its result."""

from __future__ import annotations

from collections.abc import Callable

from pytest_nsjail.jail.handle import Handle, Told
from pytest_nsjail.runtime.result import Result


class Execution:
    """A program that was started in a jail beside its main one.

    :param number: what the handle calls it.
    :param gather: makes a result of what was told.
    """

    def __init__(self, handle: Handle, number: int, gather: Callable[[Told], Result]) -> None:
        self._handle, self._number, self._gather = handle, number, gather

    def over(self) -> bool:
        """Whether it has ended, or never ran.

        :raises SetupError: where the jail ended before it.
        """
        return self._handle.has_ended(self._number)

    def result(self) -> Result:
        """What happened, once it has ended; to be asked once.

        :raises SetupError: where the jail ended before it.
        """
        told = self._handle.ended(self._number)
        result = self._gather(told)
        self._handle.forget(self._number)
        return result

    def abandon(self) -> None:
        """End it, whatever it does; nobody is to know.

        :raises SetupError: where the jail ended before it.
        """
        self._handle.stop(self._number, 0.0)
        self._handle.ended(self._number)
        self._handle.forget(self._number)

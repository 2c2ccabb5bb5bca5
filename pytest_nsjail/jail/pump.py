"""Carries a payload's streams: its output into memory files that pytest reads, its input from one."""

from __future__ import annotations

import errno
import fcntl
import os
import select

from pytest_nsjail.jail.echo import Echo

# What pytest keeps of one stream; what a program writes beyond is read, so that it does not block, and dropped.
LIMIT = 64 << 20
_CHUNK = 1 << 16
# What is moved before the init looks after anything else: a program may write as fast as it is read.
_TURN = 16 * _CHUNK


class Pump:
    """One direction of one stream: from ``source`` to ``target``, both closed at the end.

    :param source: a pipe of the payload's output, or a memory file for its input.
    :param target: a memory file, or the payload's input pipe, non-blocking.
    :param echo: who repeats what came into the memory file.
    """

    def __init__(self, source: int, target: int, *, outward: bool, echo: Echo | None = None) -> None:
        self._source, self._target = source, target
        self._echo = echo
        self._outward = outward
        self._carried = 0
        self.dropped = 0
        self.open = True
        self.fd = source if outward else target
        self.events = select.POLLIN if outward else select.POLLOUT
        os.set_blocking(self.fd, False)

    def carry(self) -> None:
        """Move what can be moved without waiting, up to a bound."""
        self._move(_TURN)

    def drain(self) -> None:
        """Move what is in the payload's pipe at this moment, where others may go on writing to it."""
        self._move(fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ))

    def _move(self, most: int) -> None:
        until = self._carried + self.dropped + most
        try:
            while self.open and (left := until - self._carried - self.dropped) > 0:
                if not (self._out(min(_CHUNK, left)) if self._outward else self._in()):
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            # EPIPE: the program closed its input, and wants no more of it.
            if error.errno != errno.EPIPE:
                raise
            self.close()

    def _out(self, most: int) -> bool:
        data = os.read(self._source, most)
        if not data:
            self.close()
            return False
        kept = data[: max(0, LIMIT - self._carried)]
        self.dropped += len(data) - len(kept)
        self._carried += len(kept)
        while kept:
            kept = kept[os.write(self._target, kept) :]
        if self._echo:
            self._echo.go_on()
        # A short read has emptied the pipe; the poll tells when there is more.
        return len(data) == most

    def _in(self) -> bool:
        data = os.pread(self._source, _CHUNK, self._carried)
        if not data:
            self.close()
            return False
        self._carried += os.write(self._target, data)
        return True

    def catch_up(self) -> bool:
        """Have repeated what could not be yet.

        :return: whether there still is something.
        """
        if self._echo and self._echo.behind:
            self._echo.go_on()
        return self._echo is not None and self._echo.behind

    def close(self) -> None:
        """Close both ends."""
        if self.open:
            self.open = False
            if self._echo:
                self._echo.end()
            os.close(self._source)
            os.close(self._target)

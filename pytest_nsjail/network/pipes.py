"""The pipes through which bytes go from one socket to another without being copied (splice(2)). None is held by who has nothing to move."""

from __future__ import annotations

import errno
import fcntl
import os

# The most that anybody may have (pipe(7), /proc/sys/fs/pipe-max-size). The number of slots counts, which hold no more than a page or a fragment each:
# with the default of 16 the relay makes seven times as many calls for a byte.
SIZE = 1 << 20
_KEPT = 8


class Pipe:
    """One; empty, unless who has it says otherwise."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, SIZE)
        except OSError:
            pass  # beyond a plain user's share of memory for pipes, or the host's bound; it works as it is

    def close(self) -> None:
        """Whatever is in it is lost."""
        os.close(self.out)
        os.close(self.into)


class Pipes:
    """Those that are free."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []

    def take(self) -> Pipe | None:
        """One for oneself; None where this process may have no more descriptors."""
        if self._free:
            return self._free.pop()
        try:
            return Pipe()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            return None

    def give(self, pipe: Pipe, *, empty: bool = True) -> None:
        """Back again."""
        if empty and len(self._free) < _KEPT:
            self._free.append(pipe)
        else:
            pipe.close()

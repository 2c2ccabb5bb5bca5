"""What a program says, said again as it comes where pytest itself is read: with ``pytest -s``."""

from __future__ import annotations

import os
import select

_CHUNK = 1 << 16
# How long a reader who does not read is waited for at the end, in seconds.
_PATIENCE = 1.0


class Echo:
    """Repeats one memory file line by line, each behind a label. It never waits for a reader: what is read late is written late.

    :param source: a descriptor of the memory file; nobody's to close here.
    :param target: a terminal, a pipe or a file; owned from now on.
    :param label: what the lines begin with.
    """

    def __init__(self, source: int, target: int, label: str) -> None:
        self._source, self._target = source, target
        self._label = os.fsencode(f"{label}| ")
        self._said = 0
        self.behind = False

    def go_on(self) -> None:
        """Repeat what is there, in whole lines, as far as somebody reads it."""
        self._repeat(0.0, last=False)

    def end(self) -> None:
        """Repeat the rest, in a bounded time, and let go."""
        self._repeat(_PATIENCE, last=True)
        os.close(self._target)

    def _repeat(self, patience: float, *, last: bool) -> None:
        self.behind = False
        while data := os.pread(self._source, _CHUNK, self._said):
            lines = data.splitlines(keepends=True)
            # A line that is not over is repeated when it is, or when nothing more comes, or when it is a chunk long.
            if not lines[-1].endswith((b"\n", b"\r")) and not (len(data) < _CHUNK if last else len(data) == _CHUNK and len(lines) == 1):
                lines.pop()
            for line in lines:
                # A line at a time: a pipe that has room at all takes PIPE_BUF bytes without waiting, and as one (pipe(7)).
                if not self._has_room(patience):
                    self.behind = True
                    return
                try:
                    os.write(self._target, self._label + line.rstrip(b"\r\n") + b"\n")
                except OSError:
                    pass  # nobody will ever read it
                self._said += len(line)
            if not lines:
                return

    def _has_room(self, patience: float) -> bool:
        poll = select.poll()
        poll.register(self._target, select.POLLOUT)
        return bool(poll.poll(patience * 1000))

"""What a test's process writes while pytest captures, kept apart from what its parent captures meanwhile."""

from __future__ import annotations

import os

import pytest

from pytest_nsjail.plugin import private


class Output:
    """Files of the parent's own, in the place of those that pytest captures to, while a child runs.

    The child has those that were there before, and so have all others who write to them. With that it need not wait for its parent
    at the end of each phase, but only before it writes to the terminal.

    :ivar apart: whether it is so: where not all is captured, or what is is shown at once, the two go in step.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._streams = private.captured_streams(config)
        self.apart = bool(self._streams)
        self._shared = [os.dup(stream.file) for stream in self._streams]
        self._own = [os.memfd_create("nsjail-output", os.MFD_CLOEXEC) for _ in self._streams]

    def step_aside(self) -> None:
        """In the parent: leave the files to the child."""
        for stream, own in zip(self._streams, self._own, strict=True):
            stream.direct(own)

    def hand_over(self) -> None:
        """In the parent, while the child waits: let what is captured here so far be the child's, in its place between what that writes."""
        for own, shared in zip(self._own, self._shared, strict=True):
            if size := os.fstat(own).st_size:
                os.write(shared, os.pread(own, size, 0))
                os.ftruncate(own, 0)
                os.lseek(own, 0, os.SEEK_SET)

    def come_back(self) -> None:
        """In the parent, when the child has ended: have the files again, with what is in either."""
        self.hand_over()
        for stream, shared in zip(self._streams, self._shared, strict=True):
            stream.direct(shared)
        self.close()

    def close(self) -> None:
        """Let go of them."""
        for fd in (*self._shared, *self._own):
            os.close(fd)
        self._streams, self._shared, self._own = [], [], []

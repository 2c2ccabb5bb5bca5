"""The names that mean something in a jail: its ``/etc/hosts``, see hosts(5)."""

from __future__ import annotations

import os


class Hosts:
    """A file of the jail's stage, which is bound over the jail's own, read-only, and changes while programs read it."""

    _NAME = "hosts"

    def __init__(self) -> None:
        self._fd = -1
        self._size = 0

    def make(self, staged: int) -> str:
        """Make the file, once.

        :param staged: a descriptor of the stage.
        :return: its name there.
        """
        if self._fd < 0:
            self._fd = os.open(self._NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=staged)
        return self._NAME

    def write(self, text: str, staged: int) -> None:
        """Other names from now on."""
        self.make(staged)
        content = text.encode()
        # Over what is there, so that at no time there is less than there was: empty lines for what remains of it, and then not even those.
        os.pwrite(self._fd, content.ljust(self._size, b"\n"), 0)
        os.ftruncate(self._fd, len(content))
        self._size = len(content)

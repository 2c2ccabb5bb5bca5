"""Which of its forks a process is. A pid does not tell: in a pid namespace of its own a fork may have its parent's (pid_namespaces(7))."""

from __future__ import annotations

import os

_depth = 0


def depth() -> int:
    """How many forks lie between this process and that which imported this module."""
    return _depth


def _forked() -> None:
    global _depth
    _depth += 1


os.register_at_fork(after_in_child=_forked)

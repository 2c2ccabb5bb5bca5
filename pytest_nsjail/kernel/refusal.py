"""A step of making a jail that the kernel refused: what it is about, the answer, and where."""

from __future__ import annotations

import errno as errors
from enum import Enum
from typing import NamedTuple

from pytest_nsjail.kernel.facts import Facts


class Topic(Enum):
    """What a step is about, as far as advice goes; the values are how its words may begin."""

    GROUPS = ("a control group", "control groups", "join the control groups")
    CGROUP_NAMESPACE = ("a cgroup namespace", "enter the cgroup namespace")
    IDS = ("several ids", "map the ids of the user namespace: newuidmap", "map the ids of the user namespace: newgidmap")
    MAP = ("map the", "the map of", "root of the user namespace", "become user")
    USER = ("a user namespace", "enter the user namespace", "the payload's user namespace", "start the payload")
    NAMESPACE = ("fresh ", "a mount namespace", "a pid namespace", "a network namespace", "an IPC namespace", "a UTS namespace", "the zygote (fork)")
    PROC = ("a fresh /proc",)
    OVERLAY = ("an overlay",)
    REPLACED = ("a directory of the image replaced",)
    PIVOT = ("the change of root",)
    LOOPBACK = ("the loopback",)
    BIND = ("a read-only bind", "a writable bind", "the device", "the terminal", "a read-only root", "a hold on", "the host's files", "in the root")
    MOUNT = (
        "private mounts", "a private tmpfs", "a tmpfs", "a minimal /dev", "terminals", "the host's devices", "the writable parts of /proc", "/dev and /proc",
        "the stage", "the names of the network",
    )
    NAME = ("the hostname",)
    PRIVILEGES = ("no new privileges",)

    @classmethod
    def of(cls, step: str) -> Topic | None:
        """The topic of a step in words, or None where it is none of making a jail."""
        return next((topic for topic in cls if step.startswith(topic.value)), None)


class Refusal(NamedTuple):
    """What happened."""

    topic: Topic
    errno: int
    facts: Facts

    @property
    def denied(self) -> bool:
        """Whether it is a matter of rights."""
        return self.errno in (errors.EPERM, errors.EACCES)

"""What the probe tries, in order, and what came of it."""

from __future__ import annotations

import errno as errors
import os
from enum import Enum
from typing import NamedTuple


class Step(Enum):
    """A step of making a jail, in words."""

    MEMORY = "a control group for memory"
    PROCESSES = "a control group for the number of processes"
    IDS = "several ids (newuidmap)"
    USER = "a user namespace"
    MAP = "the map of its ids"
    MOUNT = "a mount namespace"
    PRIVATE = "private mounts"
    PID = "a pid namespace"
    NETWORK = "a network namespace"
    LOOPBACK = "the loopback interface up"
    IPC = "an IPC namespace"
    UTS = "a UTS namespace, and its hostname"
    TMPFS = "a private tmpfs"
    PROC = "a fresh /proc"
    DEVICES = "the host's devices, bound"
    BIND = "a read-only bind (open_tree, mount_setattr, move_mount)"
    TERMINALS = "terminals of its own (devpts)"
    OVERLAY = "an overlay over the store"
    REPLACED = "a directory of the image replaced"
    PIVOT = "the change of root (pivot_root)"
    PAYLOAD = "the payload's user namespace"
    PAYLOAD_MAP = "the map of the payload's ids"
    CGROUP = "a cgroup namespace"
    BECOME = "become user 0 in it (setgroups, setresuid)"
    PRIVILEGES = "no new privileges"

    @property
    def needs(self) -> tuple[Step, ...]:
        """The steps without which this one means nothing; a step of those that are not tried at all does not count."""
        return _NEEDS.get(self, ())


_NEEDS: dict[Step, tuple[Step, ...]] = {
    **dict.fromkeys((Step.IDS, Step.MAP), (Step.USER,)),
    **dict.fromkeys((Step.MOUNT, Step.PID, Step.NETWORK, Step.IPC, Step.UTS), (Step.MAP,)),
    Step.PRIVATE: (Step.MOUNT,),
    Step.LOOPBACK: (Step.NETWORK,),
    Step.TMPFS: (Step.PRIVATE,),
    Step.PROC: (Step.TMPFS, Step.PID),
    **dict.fromkeys((Step.DEVICES, Step.BIND, Step.TERMINALS, Step.OVERLAY), (Step.TMPFS,)),
    Step.REPLACED: (Step.OVERLAY,),
    Step.PIVOT: (Step.OVERLAY,),
    Step.PAYLOAD: (Step.MAP,),
    # The init finds its child by number in the /proc of its own pid namespace.
    Step.PAYLOAD_MAP: (Step.PAYLOAD, Step.PROC),
    Step.CGROUP: (Step.PAYLOAD,),
    Step.BECOME: (Step.PAYLOAD_MAP,),
}
# A jail can be made without: a limit is held otherwise, or the jail has one user, or programs must not do one thing.
_OPTIONAL = frozenset((Step.MEMORY, Step.PROCESSES, Step.REPLACED))


class Check(NamedTuple):
    """What came of one step.

    :param step: in words, a value of :class:`Step`.
    :param errno: the kernel's answer, None for yes.
    :param detail: what more there is to say.
    :param tried: False for a step that needs one that was refused.
    """

    step: str
    errno: int | None
    detail: str = ""
    tried: bool = True

    @property
    def ok(self) -> bool:
        """Whether the kernel did it."""
        return self.tried and self.errno is None

    @property
    def needed(self) -> bool:
        """Whether no jail can be made without it."""
        # Without newuidmap, or a range, jails have one user. One that is there and refuses is used, and fails.
        absent = self.step == Step.IDS.value and (self.errno == errors.ENOENT or not self.tried)
        return Step(self.step) not in _OPTIONAL and not absent

    @property
    def words(self) -> str:
        """The errno in words and by name, or nothing."""
        return f"{os.strerror(self.errno)} ({errors.errorcode.get(self.errno, self.errno)})" if self.errno else ""


def failed(checks: tuple[Check, ...]) -> Check | None:
    """The first needed step that was refused; None where jails can be made."""
    return min((check for check in checks if check.needed and not check.ok), key=lambda check: not check.tried, default=None)

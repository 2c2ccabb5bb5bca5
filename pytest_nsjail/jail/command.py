"""One program to run in a jail, with everything about it resolved: what travels to the init."""

from __future__ import annotations

from typing import Any, NamedTuple

from pytest_nsjail.kernel.idmap import IdMap, Range


class Command(NamedTuple):
    """What the payload becomes.

    :param argv: the arguments.
    :param programs: the paths to try in order, as execvp(3) does for a name without a slash.
    :param env: every variable it gets.
    :param idmap: the user namespace's map, below the zygote's.
    :param groups: supplementary groups; set only where the map allows setgroups(2).
    :param rlimits: (RLIMIT_* number, soft, hard).
    :param watch: bounds that no control group holds, so that the init looks after them itself: ``memory`` in bytes and
        ``processes``.
    :param timeout: wall time in seconds, or None.
    :param grace: seconds between SIGTERM and SIGKILL.
    :param stdin: whether input comes along as a descriptor.
    :param activate: ports that the init listens on for it.
    :param label: behind which what it writes is repeated where pytest is read, whose descriptors come along then; empty: it is not.
    :param observe: whether the init sees what it tries to reach.
    :param notify: the abstract name of a unix socket, to which it says how it is; nothing: it does not.
    """

    argv: tuple[str, ...]
    programs: tuple[str, ...]
    env: dict[str, str]
    workdir: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    idmap: IdMap
    rlimits: tuple[tuple[int, int, int], ...]
    watch: dict[str, int]
    timeout: float | None
    grace: float
    stdin: bool
    activate: tuple[int, ...] = ()
    label: str = ""
    notify: str = ""
    observe: bool = False

    def encode(self) -> dict[str, Any]:
        """For the wire."""
        return self._asdict()

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> Command:
        """From the wire, where tuples became lists."""
        return cls(**{**encoded, "idmap": IdMap.decode(encoded["idmap"])})


# What the processes of a jail run through before they are asked, see Init._rehearse.
REHEARSAL = Command(
    argv=("true",), programs=("/bin/true",), env={"PATH": "/bin"}, workdir="/", uid=0, gid=0, groups=(),
    idmap=IdMap((Range(0, 0, 1),), (Range(0, 0, 1),), False), rlimits=(), watch={}, timeout=None, grace=1.0, stdin=False,
)

"""What every jail of a session stands on: the store, the zygote, and this host's control groups."""

from __future__ import annotations

import itertools
import os
import secrets
import threading

from pytest_nsjail.image.store import Store
from pytest_nsjail.jail.bounds import Bounds, bound
from pytest_nsjail.jail.keeper import Keeper
from pytest_nsjail.jail.launcher import Launcher
from pytest_nsjail.kernel import idmap
from pytest_nsjail.kernel.hierarchy import own_hierarchy
from pytest_nsjail.spec.limits import Limits

# How long the store keeps what nobody asks for, in seconds.
_KEPT = 30 * 24 * 3600.0


class Ground:
    """One session's.

    :param store: the directory of the store.
    :param keeper: one that was started ahead; owned from now on.
    :ivar lock: held by who makes a jail.
    :ivar within: whether this process is in a cell: jails are made beside it, and what they are given is what its test sees.
    """

    def __init__(self, store: str, keeper: Keeper | None = None) -> None:
        self.store = Store(store)
        stage = f"{self.store.directory}/stage"
        os.makedirs(stage, mode=0o700, exist_ok=True)
        # Not the pid alone: pytests in different pid namespaces may share their control groups.
        self._session = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.launcher = Launcher(stage, self._session, keeper)
        self.lock = threading.Lock()
        self.within = False
        self._hierarchy = own_hierarchy()
        self._initial = idmap.in_initial_namespace()
        self._numbers = itertools.count(1)

    def bound(self, limits: Limits, maps: idmap.IdMap, uid: int) -> Bounds:
        """What one more jail is held to.

        :param maps: of its user namespace.
        :param uid: who its program is, inside.
        :raises SetupError: where the kernel refuses a control group.
        :raises Unsupported: for a limit that cannot be had here.
        """
        # Whether he is the host's root by number, as root of a container is, too.
        exempt = self._initial and idmap.outside(self.launcher.ids.uids, idmap.outside(maps.uids, uid)) == 0
        return bound(limits, self._hierarchy, session=self._session, name=str(next(self._numbers)), exempt=exempt)

    def enter(self) -> None:
        """In the process of a cell: what is this process's no more, and what it sees: no control group that it could make one in."""
        self.launcher.disown()
        self.within, self._hierarchy = True, None

    def close(self) -> None:
        """End every jail, and remove from the store what nobody has asked for in a month."""
        self.launcher.close()
        self.store.prune(_KEPT)

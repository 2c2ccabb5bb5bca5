"""Pytest's side of the zygote: starts it when the first jail is wanted, and keeps prepared inits ahead of need."""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import Any, NamedTuple

from pytest_nsjail.errors import SetupError
from pytest_nsjail.jail.entry import Doors
from pytest_nsjail.jail.keeper import Keeper
from pytest_nsjail.jail.plan import World, base, repeatable
from pytest_nsjail.jail.steps import Step, encode
from pytest_nsjail.jail.traces import Fresh, Traces
from pytest_nsjail.kernel import capability, forks, idmap, procfs, wire
from pytest_nsjail.kernel.advice import explained


class Prepared(NamedTuple):
    """An init that waits for its jail's first program.

    :param sock: to it; whoever has it owns it.
    :param steps: what of the plan it has still to do.
    :param born: whether the payload is born and waits, too.
    :param host_pid: the payload's then, as this process numbers it; 0 where it cannot see it, from a jail of its own.
    :param doors: where it was opened for a process of pytest's own, descriptors of its namespaces in the order of :data:`pytest_nsjail.jail.entrance.DOORS`,
        and of the user namespace of who comes in; whoever has them closes them.
    :param traces: what is to be seen of him then.
    """

    sock: socket.socket
    steps: tuple[Step, ...]
    born: bool
    host_pid: int
    doors: tuple[int, ...] = ()
    traces: Traces | None = None

    def close(self) -> None:
        """Give it up: the init ends."""
        self.sock.close()
        for door in self.doors:
            os.close(door)
        if self.traces:
            self.traces.close()


class _Wish(NamedTuple):
    """What a spare may do before it is asked."""

    steps: tuple[Step, ...]
    opened: bool


_BASE = _Wish((), False)
# How many of a kind are prepared ahead of need. A test begins as soon as the one before it has ended, and that may be sooner than a jail is made.
_AHEAD = {False: 1, True: 2}
# How many descriptors of namespaces come with an opened one.
_DOORS = len(Doors._fields)


class _Ordered(NamedTuple):
    """An init that will be prepared: the socket to it, and what it does before it is asked."""

    sock: socket.socket
    wish: _Wish


class Launcher:
    """The source of prepared inits.

    One spare does what every jail begins with (:func:`pytest_nsjail.jail.plan.base`). When two jails came with the same plan the third may
    be expected, and a second spare does that plan, too.

    The two ends of an init's socket are made here, and one goes along with the order: what an init says can be taken for nobody
    else's, and an order that an exception made us forget is over when our end is closed.

    :param stage: an empty directory, on which every jail mounts its own tmpfs, unseen by the host.
    :param session: by what name the keeper knows the control groups that it is to remove.
    :param keeper: the first one's, where it was started already; owned from now on.
    :ivar world: what the jails start from.
    :ivar ids: the ids that a jail can have.
    """

    def __init__(self, stage: str, session: str, keeper: Keeper | None = None) -> None:
        privileged = capability.has(capability.SYS_ADMIN)
        protected = procfs.writable_by_root() if privileged else ()
        self.world = World(stage, privileged, privileged and idmap.in_initial_namespace(), capability.effective(), protected)
        self.ids = idmap.IdMap(idmap.own("uid"), idmap.own("gid"), idmap.may_set_groups()) if privileged else idmap.rootless()
        self._session = session
        self._keeper = keeper
        # The keeper's, once it has a zygote.
        self._sock: socket.socket | None = None
        self._spares: list[_Ordered] = []
        self._last: _Wish | None = None
        self._expected: _Wish | None = None
        # What the zygote was told last, for the next order is likely to be the same.
        self._told: tuple[str, _Wish, idmap.IdMap | None] | None = None
        self._idmap: idmap.IdMap | None = None
        self._owner = forks.depth()
        self._lock = threading.RLock()

    def prepare(self, network: str, steps: tuple[Step, ...], ids: idmap.IdMap, *, opened: bool = False) -> Prepared:
        """An init for a jail.

        One that was killed from outside while it waited is replaced, and so is its zygote; once.

        :param steps: the jail's plan.
        :param ids: the payload's map; the next one is expected to have it, too.
        :param opened: whether it is for a process of pytest's own, and not for a program.
        :raises SetupError: where the zygote cannot be started, or the kernel refuses a step.
        """
        with self._lock:
            wish = _Wish(steps, opened)
            self._expected = wish if wish == self._last and network == "none" and repeatable(steps) else None
            self._last, self._idmap = wish, ids
            ordered, ready = self._await(network, wish)
            if ready is None:
                ordered.sock.close()
                ordered, ready = self._await(network, wish)
        if ready is not None and ready.body["event"] == "prepared":
            if opened:
                doors, (proc, *uppers) = ready.fds[:_DOORS], ready.fds[_DOORS:]
                layers = [Fresh(tuple(directories), tuple(stamp and tuple(stamp) for stamp in stamps)) for directories, stamps in ready.body["layers"]]
                return Prepared(ordered.sock, (), False, 0, tuple(doors), Traces(proc, uppers, layers))
            return Prepared(ordered.sock, steps[len(ordered.wish.steps) :], ready.body["born"], ready.pid if ready.body["born"] else 0)
        ordered.sock.close()
        if ready is None:
            raise SetupError("the jail's init died while it was made")
        if ready.body["event"] == "broken":
            raise SetupError(f"the jail's init failed: {ready.body['error']}")
        raise explained(SetupError(ready.body["step"], ready.body["errno"]))

    def begin(self) -> None:
        """Have the zygote made, and wait until it serves; it is where the first jail is asked for, otherwise.

        :raises SetupError: where it cannot be.
        """
        with self._lock:
            if self._sock is None:
                self._sock = self._start()

    def ahead(self) -> None:
        """Have spares prepared before anybody asks."""
        with self._lock:
            if self._sock is None:
                return
            wanted = [self._expected, _BASE] if self._expected else [_BASE]
            for spare in [spare for spare in self._spares if spare.wish not in wanted]:
                self._spares.remove(spare)
                spare.sock.close()
            for wish in wanted:
                there = sum(spare.wish == wish for spare in self._spares)
                self._spares += [self._order("none", wish) for _ in range(_AHEAD[wish.opened] - there)]

    def disown(self) -> None:
        """In a forked child: leave the spares to the parent. What the child orders itself is its own."""
        for spare in self._spares:
            spare.sock.close()
        self._spares.clear()
        self._expected = self._told = None

    @property
    def _mine(self) -> bool:
        """Whether this process is the one that this was made in."""
        return self._owner == forks.depth()

    def _await(self, network: str, wish: _Wish) -> tuple[_Ordered, wire.Received | None]:
        ordered = self._take(network, wish)
        try:
            ready = wire.receive(ordered.sock)
            return ordered, ready
        except BaseException:
            ordered.sock.close()
            raise

    def _take(self, network: str, wish: _Wish) -> _Ordered:
        if self._sock is not None and _hung_up(self._sock):
            # What a spare said before it died with the zygote is still to be read, and no longer so.
            self.close()
        self.begin()
        # The one that has done it all before the one that has not.
        for wanted in ((wish,) if wish.opened else (wish, _BASE)) if network == "none" else ():
            for spare in [spare for spare in self._spares if spare.wish == wanted]:
                self._spares.remove(spare)
                # One that was killed while it waited may have said before that it is prepared.
                if not _hung_up(spare.sock):
                    return spare
                spare.sock.close()
        return self._order(network, wish if wish.opened else _BASE)

    def _order(self, network: str, wish: _Wish) -> _Ordered:
        assert self._sock is not None
        ours, theirs = wire.pair()
        ours.setsockopt(socket.SOL_SOCKET, wire.SO_PASSCRED, 1)
        with theirs:
            try:
                # Who is interrupted from here on does not know what the zygote was told last.
                told, last, self._told = (network, wish, self._idmap), self._told, None
                if told == last:
                    order: dict[str, Any] = {}
                else:
                    steps = [encode(step) for step in (*base(self.world, network), *wish.steps)]
                    # What a fork of this process asks for is not what this one has asked for last.
                    order = {"steps": steps, "idmap": self._idmap, "opened": wish.opened, "kept": self._mine}
                wire.send(self._sock, order, [theirs.fileno()])
                self._told = told if self._mine else None
            except BrokenPipeError:
                # The zygote is gone: whoever listens on ours hears the end of file.
                pass
        return _Ordered(ours, wish)

    def _start(self) -> socket.socket:
        self._keeper = self._keeper or Keeper()
        self._told = None
        try:
            self._keeper.have_zygote(self.ids, privileged=self.world.privileged, session=self._session)
        except BaseException:
            self.close()
            raise
        return self._keeper.sock

    def close(self) -> None:
        """End the zygote, and with it every jail; wait until the keeper has cleaned up.

        A forked child of pytest's that calls this gives back its own descriptors, and ends nothing.
        """
        with self._lock:
            for spare in self._spares:
                if self._mine:
                    # Closing is not enough while a forked child holds a copy.
                    spare.sock.shutdown(socket.SHUT_RDWR)
                spare.sock.close()
            self._spares.clear()
            # First forgotten: who is interrupted here comes again.
            keeper, self._keeper, self._sock = self._keeper, None, None
            if keeper is not None:
                keeper.close()


def _hung_up(sock: socket.socket) -> bool:
    """Whether nobody holds the other end any more."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))

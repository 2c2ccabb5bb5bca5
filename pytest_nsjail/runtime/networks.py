"""The networks of one session."""

from __future__ import annotations

import itertools
import threading

from pytest_nsjail.errors import SpecError
from pytest_nsjail.jail.handle import Handle
from pytest_nsjail.jail.launcher import Launcher
from pytest_nsjail.jail.sockets import Sockets
from pytest_nsjail.kernel import idmap
from pytest_nsjail.network.network import Network
from pytest_nsjail.spec import check
from pytest_nsjail.spec.network import NetworkSpec


class Networks:
    """Those that are there, by name.

    :param launcher: where a switch's init comes from.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._open: dict[str, Network] = {}
        self._lock = threading.Lock()

    def make(self, name: str | None) -> Network:
        """One more.

        :param name: unlike any other's; None: one by its number.
        :raises SpecError: for a name that another one has, or that is none.
        :raises SetupError: where the kernel makes no switch.
        """
        with self._lock:
            self._open = {one.name: one for one in self._open.values() if not one.closed}
            if name is None:
                name = next(free for number in itertools.count(1) if (free := f"net{number}") not in self._open)
            declaration = f"nsjail_network(name={name!r})"
            if check.hostname(declaration, name) in self._open:
                raise SpecError(declaration, f"there is a network {name!r} in this session", "Choose another name, or close() that one first.")
            # An init that gets no program, and does what pytest may not: in a test's own process it has no power over any network.
            handle = Handle(self._launcher.prepare("none", (), idmap.payload(self._launcher.ids, 0, 0)))
            sockets = Sockets(handle.channel)

            def end() -> None:
                sockets.close()
                handle.close()

            try:
                self._open[name] = network = Network(NetworkSpec(name), sockets, end)
            except BaseException:
                end()
                raise
            return network

    def declared(self, network: Network) -> NetworkSpec:
        """What a jail's declaration says of a network.

        :raises SpecError: where that is none of this session's, or is closed.
        """
        if self._open.get(network.name) is not network or network.closed:
            problem = "it was closed, or is another session's"
            raise SpecError(f"network={network!r}", problem, "Write what nsjail_network() returned in this test, or in this session.")
        return network.spec

    def find(self, spec: object) -> Network | None:
        """The network that a jail's declaration names, if it names one.

        :raises SpecError: where there is none of that name.
        """
        if not isinstance(spec, NetworkSpec):
            return None
        if spec.name not in self._open:
            raise SpecError(f"network={spec!r}", "there is no such network in this session", f"There are {', '.join(self._open) or 'none'}.")
        return self._open[spec.name]

    def close(self) -> None:
        """End them all."""
        for network in self._open.values():
            network.close()

"""Pytest's side of published ports: the relay (:mod:`pytest_nsjail.network.relay`), which is started with the first of them."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pytest_nsjail.errors import SetupError
from pytest_nsjail.kernel import wire
from pytest_nsjail.network.bound import Bound
from pytest_nsjail.network.published import Published
from pytest_nsjail.spec.publish import Inner

# As the launcher's: what lies beside this package must not stand in for the standard library.
_BOOTSTRAP = "import sys; sys.path.append(sys.argv[3]); from pytest_nsjail.network.relay import main; main(int(sys.argv[1]), int(sys.argv[2]))"
Told = list[list[Any]]


class Relay:
    """One relay, which lives no longer than this process."""

    def __init__(self) -> None:
        self._questions = itertools.count()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._said, self._last = os.memfd_create("nsjail-stderr", os.MFD_CLOEXEC), ""
        self._sock, theirs = wire.pair()
        me = os.pidfd_open(self._owner)
        package = str(Path(__file__).resolve().parents[2])
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _BOOTSTRAP, str(theirs.fileno()), str(me), package],
                    env={}, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said,
                    pass_fds=[theirs.fileno(), me], start_new_session=True,
                )
            except OSError as error:
                self._sock.close()
                os.close(self._said)
                raise SetupError(f"start the relay of published ports: {sys.executable}", error.errno) from error
            finally:
                os.close(me)

    @property
    def foreign(self) -> bool:
        """Whether it is the relay of the process that this one was forked from, and maybe of another network."""
        return self._owner != os.getpid()

    @property
    def alive(self) -> bool:
        """Whether it serves this process."""
        return not self.foreign and self._process.poll() is None

    def say(self, body: dict[str, Any], *fds: int) -> None:
        """Tell it something.

        :raises SetupError: where it is gone.
        """
        try:
            wire.send(self._sock, body, fds)
        except OSError as error:
            raise self._lost() from error

    def ask(self, body: dict[str, Any]) -> list[Told]:
        """What it knows of a jail's clients, port by port.

        :raises SetupError: where it is gone.
        """
        with self._lock:
            question = next(self._questions)
            self.say({**body, "question": question})
            while said := wire.receive(self._sock):
                # Whoever asked before may have been interrupted while he waited.
                if said.body["question"] == question:
                    clients: list[Told] = said.body["clients"]
                    return clients
        raise self._lost()

    def close(self) -> None:
        """End it. A fork of the process that it serves gives back its own descriptors, and ends nothing."""
        if self.foreign:
            self._process.returncode = 0  # not this one's to wait for
        else:
            self._process.kill()
            self._process.wait()
        self._sock.close()
        self._last = self._words()
        os.close(self._said)
        self._said = -1

    def _words(self) -> str:
        return self._last if self._said < 0 else os.pread(self._said, 4096, 0).decode(errors="replace").strip()

    def _lost(self) -> SetupError:
        last = self._words()
        return SetupError(f"the relay of published ports is gone{': ' + last if last else ''}")


class Publisher:
    """Where the ports of all jails are published."""

    def __init__(self) -> None:
        self._relay: Relay | None = None
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def relay(self) -> tuple[Relay, int]:
        """The one there is, and the number of one more jail for it."""
        with self._lock:
            if self._relay is not None and not self._relay.alive:
                self._relay.close()
                self._relay = None
            if self._relay is None:
                self._relay = Relay()
            return self._relay, next(self._numbers)

    def close(self) -> None:
        """Publish nothing any more."""
        with self._lock:
            if self._relay is not None:
                self._relay.close()
                self._relay = None


class Publication:
    """The published ports of one jail.

    :param ports: bound; owned from now on.
    """

    def __init__(self, publisher: Publisher, ports: Sequence[Bound]) -> None:
        self._publisher, self._ports = publisher, ports
        self._relay: Relay | None = None
        self._number = 0
        self._last: list[Told] = [[] for _ in ports]
        self.published: Mapping[Inner, Published] = {
            port.declared.inner: Published(port.address, partial(self._told, index)) for index, port in enumerate(ports)
        }

    def start(self, channel: socket.socket) -> None:
        """Have them served.

        :param channel: to the jail's init.
        :raises SetupError: where there can be no relay.
        """
        self._relay, self._number = self._publisher.relay()
        self._relay.say({"do": "open", "jail": self._number}, channel.fileno())
        for port in self._ports:
            self._relay.say({"do": "publish", "jail": self._number, "port": port.declared.port}, port.sock.fileno())
        self._release()

    def close(self) -> None:
        """The jail has ended: nobody listens any more, and who was there is known for good."""
        relay, self._relay = self._relay, None
        self._release()
        if relay is not None and relay.alive:
            try:
                self._last = relay.ask({"do": "close", "jail": self._number})
            except SetupError:
                pass  # it was killed, and what it knew is gone

    def _told(self, index: int) -> Told:
        relay = self._relay
        if relay is None:
            return self._last[index]
        if relay.foreign:
            raise SetupError("the clients of a published port are known to the process that started the jail, and this is a fork of it")
        return relay.ask({"do": "clients", "jail": self._number})[index]

    def _release(self) -> None:
        for port in self._ports:
            port.sock.close()

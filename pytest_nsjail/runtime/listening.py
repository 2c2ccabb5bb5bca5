"""Servers that are waited for, on ports and on unix sockets, by what the kernel knows of them: nobody is connected to."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from pytest_nsjail.errors import JailEnded
from pytest_nsjail.jail.processes import Activity
from pytest_nsjail.kernel.sock_diag import LISTEN, Diag
from pytest_nsjail.kernel.sock_diag import Unix as Named
from pytest_nsjail.network.dial import LOOPBACK
from pytest_nsjail.network.observed import Listener, ask
from pytest_nsjail.runtime.watch import Subject, Timed
from pytest_nsjail.spec.ready import Http, Listening, Unix, ports

# Between two looks at where else somebody listens, in seconds.
_LOOK_AROUND = 0.1
# How long everybody must have slept before a server counts as settled: on its port at another address, and on another port.
_SETTLED_ADDRESS, _SETTLED_PORT = 0.5, 3.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Ear:
    """Knows who listens on TCP ports in a jail."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._diag: Diag | None = None

    def at(self, addresses: tuple[str, ...], port: int) -> str | None:
        """The first of these addresses at which somebody in the jail listens on a port."""
        try:
            if self._diag is None:
                self._diag = ask(self._subject.sockets)
                # An exact look-up says "none" as well where the kernel cannot tell.
                self._diag.inet(socket.IPPROTO_TCP, LISTEN)
            for address in addresses:
                inode = self._diag.listener(address, port)
                if inode is not None and (not self._subject.shared or self._subject.sockets.holders([inode]).get(inode)):
                    return address
        except JailEnded:
            pass
        return None

    def anybody(self) -> bool:
        """Whether anybody listens on any port."""
        return self._diag is not None and bool(self._diag.inet(socket.IPPROTO_TCP, LISTEN))

    def close(self) -> None:
        """Listen no more."""
        if self._diag is not None:
            self._diag.close()


class Quiet:
    """For how long nothing has happened in a jail: the same processes sleep, and the same servers listen.

    A program that has all it needs waits for who comes. One that is on its way runs, or waits for a processor, a disk, or a time to come;
    an event loop's tick takes less than a hundredth of a processor.
    """

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._activity: Activity | None = None
        self._listeners: tuple[Listener, ...] = ()

    def look(self, activity: Activity, listeners: tuple[Listener, ...]) -> float:
        """Seconds of quiet until now."""
        now, first = time.monotonic(), self._activity
        most = max(1.0, (now - self._since) * _TICKS / 100)
        same = first and first.pids == activity.pids and activity.ticks - first.ticks <= most and self._listeners == listeners
        if not (same and activity.asleep):
            self._since, self._activity, self._listeners = now, activity, listeners
        return now - self._since


class ListeningWatch(Timed):
    """A server on a TCP port.

    :ivar address: where it was found.
    """

    def __init__(self, subject: Subject, condition: Listening | Http) -> None:
        super().__init__(condition, condition.timeout)
        self._subject, self._port = subject, condition.port
        host = condition.host if isinstance(condition, Listening) else None
        self._addresses = (host,) if host else LOOPBACK
        self._patient = condition.patient
        spec = subject.jail.spec
        # Whoever listens there is expected.
        self._declared = {*spec.activate, *(one.port for one in spec.publish), *ports(spec.ready)}
        self._ear, self._quiet = Ear(subject), Quiet()
        self._next = time.monotonic() + _LOOK_AROUND
        self.address = ""

    def met(self) -> bool:
        self.address = self._ear.at(self._addresses, self._port) or ""
        return bool(self.address)

    def lost(self) -> str | None:
        if not self._patient and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LOOK_AROUND
            if self._ear.anybody() and (elsewhere := self._elsewhere()):
                return f"{self.condition!r}: {elsewhere}"
        return super().lost()

    def _elsewhere(self) -> str | None:
        """Why nobody will listen where he is waited for: whoever was to has settled at another place."""
        try:
            activity = self._subject.sockets.activity()
        except JailEnded:
            return None
        there = tuple(one for one in self._subject.jail.listeners() if one.protocol == "tcp" and one.process)
        quiet = self._quiet.look(activity, there)
        if near := [one for one in there if one.port == self._port]:
            if quiet >= _SETTLED_ADDRESS:
                found = " and ".join(sorted({one.address for one in near}))
                instead = f"Have it listen there as well, or write Listening({self._port}, host={near[0].address!r})."
                return f"port {self._port} is listened on at {found} alone, which {' and '.join(self._addresses)} does not reach. {instead}"
        elif self._subject.starting and quiet >= _SETTLED_PORT and (others := [one for one in there if one.port not in self._declared]):
            found = " and ".join(str(port) for port in sorted({one.port for one in others}))
            instead = f"If it takes its time after that: {type(self.condition).__name__}({self._port}, patient=True)."
            return f"nobody listens on port {self._port}, but on {found}, and for {quiet:.0f} s everybody in the jail has been asleep. {instead}"
        return None

    def seen(self) -> str:
        return f"nobody listens on port {self._port} at {' or '.join(self._addresses)}"

    def close(self) -> None:
        self._ear.close()


class UnixWatch(Timed):
    """A server on a unix socket."""

    def __init__(self, subject: Subject, condition: Unix) -> None:
        super().__init__(condition, condition.timeout)
        self._subject, self._path = subject, str(condition.path)
        self._diag: Diag | None = None
        self._why = "there is no such file"

    def met(self) -> bool:
        try:
            if self._path.startswith("@"):
                self._why = "nobody has that name"
                return self._listened(lambda one: one.name == self._path)
            file = self._subject.sockets.file(self._path)
            self._why = "nobody listens on it"
            # A program may have given its path as it saw it from another directory, or through symlinks: the file counts.
            return self._listened(lambda one: one.file == file)
        except OSError as error:
            self._why = f"{self._path}: {error.strerror}"
        except JailEnded:
            pass
        return False

    def _listened(self, meant: Callable[[Named], bool]) -> bool:
        if self._diag is None:
            self._diag = ask(self._subject.sockets)
        found = [one for one in self._diag.unix() if meant(one) and (one.state == LISTEN or one.kind == socket.SOCK_DGRAM)]
        return bool(found) and (not self._subject.shared or bool(self._subject.sockets.holders([one.inode for one in found])))

    def seen(self) -> str:
        return self._why

    def close(self) -> None:
        if self._diag is not None:
            self._diag.close()

"""The relay: one process for all published ports of a pytest session, which carries what their clients and the jails say to each other.

Pytest execs it with an empty environment when the first port is published. It listens on sockets that pytest bound, and connects by sockets that the jails'
inits make for it: it has no privilege and needs none. One thread, in which nothing waits for anybody in particular.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import suppress
from typing import NoReturn

from pytest_nsjail.kernel import keyring, privileges, syscall, wire
from pytest_nsjail.network.datagrams import Datagrams
from pytest_nsjail.network.forward import Forward
from pytest_nsjail.network.holders import RELAY
from pytest_nsjail.network.shared import Shared
from pytest_nsjail.network.supply import Supply


def main(control: int, pytest: int) -> NoReturn:
    """The relay's life.

    :param control: its end of the socket to pytest.
    :param pytest: a pidfd of it: forks of pytest's may hold the other end of that socket.
    """
    for fd in (control, pytest):
        os.set_inheritable(fd, False)
    syscall.forget_arguments()
    syscall.set_process_name(RELAY)
    syscall.forget_signals()
    # A client that has gone is an error of the call, and none of the process.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    keyring.forget_keys()
    privileges.keep_capabilities(0)
    syscall.prctl(syscall.PR_SET_NO_NEW_PRIVS, 1)
    with suppress(OSError, AttributeError):  # musl has no such calls
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            # Whoever wakes it up goes on, where it would be preempted else (sched(7)): then there is more to move at once.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    relay = Relay(socket.socket(fileno=control))
    relay.loop.watch(pytest, lambda _: os._exit(0), select.EPOLLIN)
    while True:
        relay.loop.turn()


class Jail:
    """One jail's published ports.

    :param channel: to its init.
    """

    def __init__(self, shared: Shared, channel: socket.socket) -> None:
        self._shared = shared
        self._supply = Supply(shared.loop, channel, self.close)
        self._ports: list[Forward | Datagrams] = []

    def publish(self, sock: socket.socket, inside: int) -> None:
        """One more.

        :param sock: bound on the host.
        """
        kind = Datagrams if sock.type == socket.SOCK_DGRAM else Forward
        port = kind(self._shared, self._supply, sock, inside)
        self._ports.append(port)
        # It may have ended before it was asked for anything.
        if self._supply.over:
            port.close()

    def told(self, end: str | None = None) -> list[object]:
        """Each port's clients.

        :param end: of those who are still there.
        """
        return [port.ledger.told(end) for port in self._ports]

    def close(self) -> None:
        """It has ended."""
        self._supply.close()
        for port in self._ports:
            port.close()


class Relay:
    """What pytest asks for."""

    def __init__(self, control: socket.socket) -> None:
        control.setblocking(False)
        self._control, self._shared = control, Shared()
        self.loop = self._shared.loop
        self._jails: dict[int, Jail] = {}
        self.loop.watch(control.fileno(), self._obey)

    def _obey(self, _: int) -> None:
        while True:
            try:
                asked = wire.receive(self._control)
            except BlockingIOError:
                return
            if asked is None:
                os._exit(0)
            body, number = asked.body, asked.body["jail"]
            match body["do"]:
                case "open":
                    self._jails[number] = Jail(self._shared, socket.socket(fileno=asked.fds[0]))
                case "publish":
                    self._jails[number].publish(socket.socket(fileno=asked.fds[0]), body["port"])
                case "clients":
                    self._answer(body["question"], self._jails[number].told())
                case "close":
                    jail = self._jails.pop(number)
                    jail.close()
                    # Some may still read the last that they were told, and nobody can ask any more what became of them.
                    self._answer(body["question"], jail.told("the jail ended"))

    def _answer(self, question: int, clients: list[object]) -> None:
        try:
            wire.send(self._control, {"question": question, "clients": clients})
        except BlockingIOError:
            pass  # who asked has not taken the answers to what he asked before, and waits for none

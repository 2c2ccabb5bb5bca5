"""Sockets of a jail's network, for who stands outside of it: what the jail's init is asked for, see :mod:`pytest_nsjail.jail.agent`."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytest_nsjail.errors import JailEnded
from pytest_nsjail.jail.processes import Activity
from pytest_nsjail.kernel import wire


class Sockets:
    """Asks one jail's init; several threads may.

    :param channel: opens a channel to it, on the first question.
    :param ended: what there is to say where the jail has ended.
    """

    def __init__(self, channel: Callable[[], socket.socket], ended: Callable[[], JailEnded] = lambda: JailEnded("the jail has ended")) -> None:
        self._open, self._ended = channel, ended
        self._channel: socket.socket | None = None
        # Again by who finds the jail ended while he opens a channel, and closes this.
        self._lock = threading.RLock()

    def make(self, family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """A fresh socket that lives in the jail's network.

        :raises OSError: as socket(2) in the jail.
        :raises JailEnded: where the jail has ended.
        """
        fds = self._ask({"do": "socket", "kind": (family, kind, protocol)}).fds
        return socket.socket(family, kind, protocol, fileno=fds[0])

    def connect(self, path: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket that is connected to a path in the jail's root.

        :raises OSError: as connect(2); BlockingIOError where the server's queue is full.
        :raises JailEnded: where the jail has ended.
        """
        return self._unix({"do": "connect", "path": path, "type": kind}, kind)

    def listen(self, path: str, kind: int = socket.SOCK_STREAM, backlog: int = socket.SOMAXCONN) -> socket.socket:
        """A socket that listens at a path in the jail's root, for everybody in it.

        :raises OSError: as bind(2).
        :raises JailEnded: where the jail has ended.
        """
        return self._unix({"do": "listen", "path": path, "type": kind, "backlog": backlog}, kind)

    def namespace(self) -> int:
        """A descriptor of the network namespace; the caller's.

        :raises JailEnded: where the jail has ended.
        """
        return self._ask({"do": "namespace"}).fds[0]

    def ipc(self) -> dict[str, int]:
        """Descriptors of the IPC namespace and of its ``/dev/shm``, for another jail; the caller's.

        :raises JailEnded: where the jail has ended.
        """
        return dict(zip(("ipc", "shm"), self._ask({"do": "ipc"}).fds, strict=True))

    def configure(self, packet: bytes, namespace: int | None = None) -> list[tuple[int, int]]:
        """Have changes made to the network, see :func:`pytest_nsjail.kernel.rtnetlink.perform`.

        :param namespace: a descriptor of another one, for a packet that means it.
        :return: the changes that were refused: number and errno.
        :raises JailEnded: where the jail has ended.
        """
        fds = [] if namespace is None else [namespace]
        said = self._ask({"do": "configure", "packet": base64.b64encode(packet).decode()}, fds)
        return [(number, error) for number, error in said.body["refused"]]

    def hosts(self, text: str) -> None:
        """Put names into the jail's ``/etc/hosts``, in place of those there.

        :raises JailEnded: where the jail has ended.
        """
        self._ask({"do": "hosts", "text": text})

    def emulate(self, number: int, ends: tuple[str, str], treatment: tuple[float, float, float, int] | None) -> None:
        """Let frames pass between two interfaces, see :mod:`pytest_nsjail.jail.emulator`; only in a jail without a program.

        :param number: what the link is known by.
        :param treatment: delay, jitter, loss and seed; None: they pass no more.
        :raises OSError: where there are no such interfaces.
        :raises JailEnded: where the jail has ended.
        """
        self._ask({"do": "emulate", "number": number, "ends": ends, "treatment": treatment})

    def holders(self, inodes: Iterable[int]) -> dict[int, tuple[int, ...]]:
        """Who has which socket, by inode number: pids inside the jail.

        :raises JailEnded: where the jail has ended.
        """
        found = self._ask({"do": "holders", "inodes": list(inodes)}).body["holders"]
        return {int(inode): tuple(pids) for inode, pids in found.items()}

    def file(self, path: str) -> tuple[int, int]:
        """Which file a path in the jail's root is, as sock_diag(7) tells it: the inode's number and the device's.

        :raises OSError: as open(2).
        :raises JailEnded: where the jail has ended.
        """
        inode, device = self._ask({"do": "file", "path": path}).body["file"]
        return inode, device

    def activity(self) -> Activity:
        """What everybody in the jail does at this moment.

        :raises JailEnded: where the jail has ended.
        """
        return Activity.decode(self._ask({"do": "activity"}).body)

    def notices(self) -> tuple[bool, str]:
        """What the program has said of itself by sd_notify(3): whether it is ready, and its last ``STATUS=``.

        :raises JailEnded: where the jail has ended.
        """
        said = self._ask({"do": "notices"}).body
        return said["ready"], said["status"]

    def attempts(self) -> dict[str, Any]:
        """What programs of the jail tried to reach where nobody is, see :class:`pytest_nsjail.jail.observer.Observer`.

        :raises JailEnded: where the jail has ended.
        """
        return self._ask({"do": "attempts"}).body

    def close(self) -> None:
        """Ask no more."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _unix(self, body: dict[str, Any], kind: int) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, kind, fileno=self._ask(body).fds[0])
        made.setblocking(True)
        return made

    def _ask(self, body: dict[str, Any], fds: Sequence[int] = ()) -> wire.Received:
        with self._lock:
            if self._channel is None:
                self._channel = self._open()
            try:
                wire.send(self._channel, body, fds)
                said = wire.receive(self._channel)
            except BrokenPipeError:
                said = None
            except BaseException:
                # Whose answer comes next is not known any more.
                self._channel.close()
                self._channel = None
                raise
        if said is None:
            raise self._ended()
        if number := said.body.get("errno"):
            raise OSError(number, os.strerror(number), body.get("path"))
        return said

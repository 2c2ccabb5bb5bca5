"""The init's service to who stands outside: sockets of the jail's own network, and who in the jail has which."""

from __future__ import annotations

import base64
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_nsjail.jail import processes
from pytest_nsjail.jail.notices import Notices
from pytest_nsjail.jail.observer import Observer
from pytest_nsjail.jail.perform import Site
from pytest_nsjail.jail.poll import Poll
from pytest_nsjail.kernel import rtnetlink, wire
from pytest_nsjail.kernel.mounts import clone_mount

if TYPE_CHECKING:
    from pytest_nsjail.jail.emulator import Emulator


class Agent:
    """Answers whoever was given a channel: pytest, and what works for it. It never waits for a peer, and so never connects by itself but to a path.

    A socket belongs to the network it was made in for ever (network_namespaces(7)): whoever gets it connects or listens in this jail, from anywhere.

    :param poll: where the channels are listened to.
    :param site: where the jail was put together.
    :param notices: what the program has said of itself.
    :param observer: what programs tried to reach.
    """

    def __init__(self, poll: Poll, site: Site, notices: Notices, observer: Observer) -> None:
        self._poll, self._site, self._notices, self._observer = poll, site, notices, observer
        self._emulator: Emulator | None = None

    def admit(self, channel: int) -> None:
        """One more who may ask."""
        self._poll.watch(channel, partial(self._answer, socket.socket(fileno=channel)))

    def _answer(self, sock: socket.socket, _: int) -> None:
        """Answer one question, or let go of who has gone."""
        try:
            asked = wire.receive(sock)
            if asked is not None:
                self._reply(sock, asked)
                return
        except (BrokenPipeError, ConnectionResetError):
            pass
        self._poll.forget(sock.fileno())
        sock.close()

    def _reply(self, sock: socket.socket, asked: wire.Received) -> None:
        fds: list[int] = []
        try:
            body = self._do(asked, fds)
        except OSError as error:
            body = {"errno": error.errno or 0}
        try:
            wire.send(sock, body, fds)
        finally:
            for fd in (*fds, *asked.fds):
                os.close(fd)

    def _do(self, asked: wire.Received, fds: list[int]) -> dict[str, Any]:
        body = asked.body
        match body["do"]:
            case "socket":
                for _ in range(body.get("count", 1)):
                    fds.append(socket.socket(*body["kind"]).detach())
            case "connect":
                # A path means a place in the jail's root, and is looked up by who is in it.
                with _unix(body["type"]) as made:
                    made.connect(body["path"])
                    fds.append(made.detach())
            case "listen":
                with _unix(body["type"]) as made:
                    before = os.umask(0)  # anybody in the jail may connect
                    try:
                        made.bind(body["path"])
                    finally:
                        os.umask(before)
                    if body["type"] != socket.SOCK_DGRAM:
                        made.listen(body["backlog"])
                    fds.append(made.detach())
            case "namespace":
                fds.append(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            case "ipc":
                fds += [os.open("/proc/self/ns/ipc", os.O_RDONLY | os.O_CLOEXEC), clone_mount("/dev/shm")]
            case "configure":
                # By the one who may: neither the program nor an isolated test has any power over this network.
                packet = base64.b64decode(body["packet"])
                return {"refused": rtnetlink.perform(rtnetlink.in_namespace(packet, *asked.fds) if asked.fds else packet)}
            case "hosts":
                self._site.hosts.write(body["text"], self._site.staged)
            case "emulate":
                self._emulate(body)
            case "holders":
                return {"holders": processes.holders(set(body["inodes"]))}
            case "file":
                return {"file": _identity(body["path"])}
            case "activity":
                return processes.activity()._asdict()
            case "attempts":
                return self._observer.attempts()
            case "notices":
                return {"ready": self._notices.ready, "status": self._notices.status}
        return {}

    def _emulate(self, body: dict[str, Any]) -> None:
        if self._emulator is None:
            # Nobody's root was changed to where it would not be found: it is asked of inits alone that have no program.
            from pytest_nsjail.jail.emulator import Emulator

            self._emulator = Emulator(self._poll)
        if body["treatment"] is None:
            self._emulator.release(body["number"])
        else:
            self._emulator.treat(body["number"], body["ends"], body["treatment"])


def _unix(kind: int) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, kind)
    # A full queue is the asker's to wait for.
    made.setblocking(False)
    return made


def _identity(path: str) -> list[int]:
    """Which file a path is, as the kernel numbers it: what stat(2) says of a file in an overlay may be another number."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        told = os.stat(fd)
        device, inode = told.st_dev, told.st_ino
        # proc_pid_fdinfo(5); the number of the inode since Linux 5.14.
        with open(f"/proc/self/fdinfo/{fd}", "rb") as lines:
            numbers = {name: int(value) for name, value in (line.split(b":\t") for line in lines) if name in (b"ino", b"mnt_id")}
        inode = numbers.get(b"ino", inode)
        with open("/proc/self/mountinfo", "rb") as mounts:
            for fields in map(bytes.split, mounts):
                if int(fields[0]) == numbers[b"mnt_id"]:
                    device = os.makedev(*map(int, fields[2].split(b":")))
        return [inode, device]
    finally:
        os.close(fd)


def listening(port: int) -> int:
    """A socket that listens on a port of the jail's, on every address of both families where there are both: its descriptor, out of a program's way.

    :raises OSError: EADDRINUSE and what else bind(2) says.
    """
    with _any_address() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("", port))
        made.listen(socket.SOMAXCONN)
        return _high(made.fileno())


def _any_address() -> socket.socket:
    try:
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError:  # a kernel without IPv6
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return made


def _high(fd: int) -> int:
    import fcntl

    # A program's own are numbered from 3 on (sd_listen_fds(3)), and none may be overwritten before it is in its place.
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 256)

"""Pytest's side of the zygote: starts it when the first jail is wanted, and keeps one prepared init ahead of need."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

from pytest_nsjail.errors import SetupError
from pytest_nsjail.jail import wire
from pytest_nsjail.jail.plan import World, base
from pytest_nsjail.jail.steps import encode
from pytest_nsjail.kernel import capability, idmap, procfs
from pytest_nsjail.kernel.advice import explained

_BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv[2]); from pytest_nsjail.jail.zygote import main; main(int(sys.argv[1]))"


class Launcher:
    """The source of prepared inits.

    :param stage: an empty directory, on which every jail mounts its own tmpfs, unseen by the host.
    :ivar world: what the jails start from.
    :ivar ids: the ids that a jail can have.
    """

    def __init__(self, stage: str) -> None:
        privileged = capability.has(capability.SYS_ADMIN)
        self.world = World(stage, privileged, privileged and idmap.in_initial_namespace(), procfs.writable_by_root() if privileged else ())
        self.ids = idmap.IdMap(idmap.own("uid"), idmap.own("gid"), idmap.may_set_groups()) if privileged else idmap.rootless()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._said = -1
        self._owed = 0
        self._spare: socket.socket | None = None
        self._owner = os.getpid()

    def prepare(self, network: str) -> socket.socket:
        """An init that has done its :func:`pytest_nsjail.jail.plan.base`; the caller owns the socket to it.

        :raises SetupError: where the zygote cannot be started, or is gone.
        """
        if self._sock is None:
            self._start()
        if network != "none":
            # Answers come in the order of the orders, so that a spare on its way is taken in first.
            if self._owed:
                self._spare = self._collect()
            self._order(network)
            return self._collect()
        if self._spare is None:
            if not self._owed:
                self._order("none")
            return self._collect()
        spare, self._spare = self._spare, None
        return spare

    def ahead(self) -> None:
        """Have one more init prepared while the caller waits for its jail."""
        if self._sock is not None and not self._owed and self._spare is None:
            self._order("none")

    def _order(self, network: str) -> None:
        assert self._sock is not None
        try:
            wire.send(self._sock, {"base": [encode(step) for step in base(self.world, network)]})
        except OSError as error:
            raise self._gone() from error
        self._owed += 1

    def _collect(self) -> socket.socket:
        said = self._receive()
        self._owed -= 1
        sock = socket.socket(fileno=said.fds[0])
        sock.setsockopt(socket.SOL_SOCKET, wire.SO_PASSCRED, 1)
        ready = wire.receive(sock)
        if ready is not None and ready.body["event"] == "prepared":
            return sock
        sock.close()
        if ready is None:
            raise SetupError("the jail's init died while it was made")
        if ready.body["event"] == "broken":
            raise SetupError(f"the jail's init failed: {ready.body['error']}")
        raise explained(SetupError(ready.body["step"], ready.body["errno"]))

    def _start(self) -> None:
        ours, theirs = wire.pair()
        self._said = os.memfd_create("nsjail-stderr", os.MFD_CLOEXEC)
        package = str(Path(__file__).resolve().parents[2])
        with theirs:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _BOOTSTRAP, str(theirs.fileno()), package],
                env={}, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )
        self._sock = ours
        wire.send(ours, {"privileged": self.world.privileged})
        if not self.world.privileged:
            self._receive()
            try:
                idmap.write(self._keeper.pid, self.ids)
            except OSError as error:
                self.close()
                raise explained(SetupError(f"map the ids of the user namespace: {error.strerror}", error.errno)) from error
            wire.send(ours, {"event": "mapped"})
        self._receive()

    def _receive(self) -> wire.Received:
        assert self._sock is not None
        said = wire.receive(self._sock)
        if said is None:
            raise self._gone()
        if said.body["event"] == "failed":
            self.close()
            raise explained(SetupError(said.body["step"], said.body["errno"]))
        return said

    def _gone(self) -> SetupError:
        last = os.pread(self._said, 4096, 0).decode(errors="replace").strip() if self._said >= 0 else ""
        self.close()
        return SetupError(f"the zygote is gone{': ' + last if last else ''}", errno.EPIPE)

    def close(self) -> None:
        """End the zygote, and with it every jail; wait until the keeper has cleaned up."""
        for sock in (self._sock, self._spare):
            if sock is not None:
                sock.close()
        if self._keeper is not None and self._owner == os.getpid():
            self._keeper.wait()
        if self._said >= 0:
            os.close(self._said)
        self._sock, self._spare, self._keeper, self._said, self._owed = None, None, None, -1, 0

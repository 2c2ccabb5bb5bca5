"""The keeper as pytest sees it: the process above the zygote (:mod:`pytest_nsjail.jail.zygote`), which outlives pytest by as long as it takes to clean up.

It takes an interpreter's start until it can be asked for anything. Whoever starts it early has other things to do in that time.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_nsjail.errors import SetupError
from pytest_nsjail.kernel import forks, idmap, wire
from pytest_nsjail.kernel.advice import explained

# Appended: what lies beside this package must not stand in for the standard library, least of all for root.
_BOOTSTRAP = "import sys; sys.path.append(sys.argv[2]); from pytest_nsjail.jail.zygote import main; main(int(sys.argv[1]))"


class Keeper:
    """A fresh one.

    :ivar sock: to the zygote, once there is one; to the keeper until then.
    :raises SetupError: where it cannot be executed.
    """

    def __init__(self) -> None:
        self._owner = forks.depth()
        self._said = os.memfd_create("nsjail-stderr", os.MFD_CLOEXEC)
        self.sock, theirs = wire.pair()
        package = str(Path(__file__).resolve().parents[2])
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _BOOTSTRAP, str(theirs.fileno()), package],
                    env={}, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said,
                    pass_fds=[theirs.fileno()], start_new_session=True,
                )
            except OSError as error:
                self.sock.close()
                os.close(self._said)
                raise SetupError(f"start the zygote: {sys.executable}", error.errno) from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def have_zygote(self, ids: idmap.IdMap, *, privileged: bool, session: str) -> None:
        """Have the zygote made, and wait until it serves.

        :param ids: of its user namespace, where it is not privileged and has one of its own.
        :param session: by what name the control groups are known that are to be removed in the end.
        :raises SetupError: where the kernel refuses a step.
        """
        self._say({"privileged": privileged, "session": session})
        if not privileged:
            self._receive()
            try:
                idmap.write(self.pid, ids)
            except OSError as error:
                raise explained(SetupError(f"map the ids of the user namespace: {error.strerror}", error.errno)) from error
            self._say({"event": "mapped"})
        self._receive()

    def _say(self, body: dict[str, Any]) -> None:
        # Why it is gone is told when its answer is asked for.
        with suppress(BrokenPipeError):
            wire.send(self.sock, body)

    def _receive(self) -> None:
        """Its next word.

        :raises SetupError: where it is that a step failed, or where it is dead.
        """
        said = wire.receive(self.sock)
        if said is None:
            last = os.pread(self._said, 4096, 0).decode(errors="replace").strip()
            raise SetupError(f"the zygote is gone{': ' + last if last else ''}", errno.EPIPE)
        if said.body["event"] == "failed":
            raise explained(SetupError(said.body["step"], said.body["errno"]))

    def close(self) -> None:
        """End the zygote, and with it every jail; wait until all is cleaned up.

        A forked child of pytest's that calls this gives back its own descriptors, and ends nothing.
        """
        mine = self._owner == forks.depth()
        if mine:
            # Closing is not enough while a forked child holds a copy.
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        if mine:
            self._process.wait()
        else:
            self._process.returncode = 0  # not this one's to wait for
        os.close(self._said)

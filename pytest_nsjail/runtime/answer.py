"""HTTP servers that are waited for, by requests like anybody's; made once somebody listens, and answered while others are waited for as well."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from pytest_nsjail.errors import JailEnded
from pytest_nsjail.network.dial import family_of
from pytest_nsjail.network.observed import place
from pytest_nsjail.runtime.listening import ListeningWatch

if TYPE_CHECKING:
    from pytest_nsjail.runtime.watch import Subject
    from pytest_nsjail.spec.ready import Http

# Between two requests, in seconds: at first and at last.
_AGAIN, _AGAIN_AT_LAST = 0.02, 0.5
# How long an answer with the right status is read on, and how much of it: a server complains of a client that leaves in the midst.
_REST_SECONDS, _REST_BYTES = 0.25, 1 << 20
_SHOWN = 60


class Exchange:
    """One request and its answer; no method waits.

    :raises JailEnded: where the jail has.
    :raises OSError: as connect(2).
    """

    def __init__(self, subject: Subject, address: str, port: int, path: str) -> None:
        self._unsent = f"GET {path} HTTP/1.1\r\nHost: {place(address, port)}\r\nUser-Agent: pytest-nsjail\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()
        self._head = b""
        self._read, self._answered = 0, 0.0
        self._sock = subject.sockets.make(family_of(address))
        self._sock.setblocking(False)
        number = self._sock.connect_ex((address, port))
        if number not in (0, errno.EINPROGRESS):
            self._sock.close()
            raise OSError(number, f"connect: {errno.errorcode.get(number, number)}")

    def go_on(self) -> bool:
        """Send what can be sent and read what is there.

        :return: whether it is over.
        :raises OSError: where the server hung up without an answer.
        """
        try:
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
            while self._read < _REST_BYTES:
                data = self._sock.recv(1 << 16)
                if not data:
                    return True
                self._read += len(data)
                if b"\n" not in self._head:
                    self._head += data
                    self._answered = time.monotonic()
        except BlockingIOError:
            return bool(self.status) and time.monotonic() - self._answered > _REST_SECONDS
        except OSError:
            if not self.status:
                raise
        return True

    @property
    def status(self) -> int:
        """What was answered so far; 0: nothing that HTTP knows."""
        line, end, _ = self._head.partition(b"\n")
        version, _, rest = line.partition(b" ")
        return int(rest[:3]) if end and version.startswith(b"HTTP/") and rest[:3].isdigit() else 0

    def __str__(self) -> str:
        if self.status:
            return f"it answered {self._head.split(None, 1)[1].splitlines()[0].decode('latin-1')}"
        return f"it answered what is no HTTP: {self._head[:_SHOWN]!r}" if self._head else "it hung up without an answer"

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


class HttpWatch(ListeningWatch):
    """An answer with a status."""

    def __init__(self, subject: Subject, condition: Http) -> None:
        super().__init__(subject, condition)
        self._path, self._wanted = condition.path, condition.status
        self._exchange: Exchange | None = None
        self._pause, self._then = _AGAIN, 0.0
        self._last = ""

    def met(self) -> bool:
        try:
            return self._answered()
        except JailEnded:
            return False
        except OSError as error:
            self._over(f"the connection failed: {error.strerror}")
            return False

    def _answered(self) -> bool:
        if self._exchange is None:
            if time.monotonic() < self._then or not super().met():
                return False
            self._exchange = Exchange(self._subject, self.address, self._port, self._path)
        if not self._exchange.go_on():
            return False
        answered = self._exchange.status == self._wanted
        self._over(str(self._exchange))
        return answered

    def _over(self, last: str) -> None:
        self._last = last
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None
        self._then = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _AGAIN_AT_LAST)

    def lost(self) -> str | None:
        # Who has answered anything listens where he is waited for.
        self._patient = self._patient or bool(self._last or self._exchange)
        return super().lost()

    def seen(self) -> str:
        if self._last:
            later = ", and then it has not answered" if self._exchange else ""
            return f"GET {self._path} was not answered with {self._wanted}: {self._last}{later}"
        return f"the server has not answered GET {self._path}" if self._exchange else super().seen()

    def close(self) -> None:
        if self._exchange is not None:
            self._exchange.close()
        super().close()

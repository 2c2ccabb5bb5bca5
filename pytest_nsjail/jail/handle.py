"""Pytest's end of one jail: orders to its init, and what it tells."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_nsjail.errors import SetupError
from pytest_nsjail.jail.command import Command
from pytest_nsjail.jail.launcher import Prepared
from pytest_nsjail.jail.steps import encode
from pytest_nsjail.kernel import forks, wire


@dataclass(frozen=True)
class Process:
    """One process of a jail.

    :param pid: as the jail numbers it.
    :param host_pid: as the host numbers it.
    :param argv: its arguments; its name where it has none.
    """

    pid: int
    host_pid: int
    argv: tuple[str, ...]


@dataclass
class Told:
    """What the init told of one program so far.

    :ivar born: whether its process is there; ``host_pid`` its number, 0 where this process cannot see it.
    :ivar failure: the step that failed, the errno and the path, where it never ran.
    :ivar report: the init's last word, once it ended; see ``Init._end``.
    :ivar layer: a descriptor of the throwaway layer, where anything was written; whoever takes it owns it.
    """

    out: int
    err: int
    born: bool = False
    host_pid: int = 0
    failure: tuple[str, int, str] | None = None
    report: dict[str, Any] | None = None
    layer: int | None = None
    leftovers: list[Process] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether it ended, or never ran."""
        return self.failure is not None or self.report is not None


_NOTHING = wire.Received({}, [], 0)


class Handle:
    """The programs of one jail, the first of which is its main one: with its end the jail ends.

    :param prepared: its init, from :meth:`Launcher.prepare`; owned from now on.
    :param echo: where the two outputs of a program with a label are repeated as they come.
    :ivar lost: whether the init is dead without a word of its main program's end.
    """

    def __init__(self, prepared: Prepared, echo: tuple[int, int] | None = None) -> None:
        self._sock, self._echo = prepared.sock, echo
        self._owner = forks.depth()
        self._prepared: Prepared | None = prepared
        self.lost = False
        self._told: dict[int, Told] = {}
        self._everybody: list[Process] | None = None
        self._asking = threading.Lock()
        # Entered by itself, not through the condition, whose own way out is Python's: a signal's handler may raise in the midst of that.
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._listener: int | None = None

    def run(
        self, number: int, command: Command, stdin: bytes | None, *, doors: Sequence[int] = (), given: Mapping[str, int] | None = None,
    ) -> None:
        """Start a program.

        :param doors: for the first one: its control groups.
        :param given: for the first one: descriptors for the steps of making its jail, by the names in :data:`Site.given`.
        :raises SetupError: where the init is gone.
        """
        out, err = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("nsjail-stdout", "nsjail-stderr"))
        first, self._prepared = self._prepared, None
        steps = [encode(step) for step in first.steps] if first else []
        self._told[number] = Told(out, err, first.born, first.host_pid) if first else Told(out, err)
        source = [] if stdin is None else [_file(stdin)]
        try:
            echo = self._echo or () if command.label else ()
            body = {"do": "run", "number": number, "command": command.encode(), "steps": steps, "given": list(given or ())}
            self._say(body, [*(given or {}).values(), out, err, *echo, *source, *doors])
        finally:
            for fd in source:
                os.close(fd)

    def started(self, number: int) -> Told:
        """Wait until a program runs, or is known not to."""
        told = self.known(number)
        self._until(lambda: told.born or told.over)
        if not told.over:
            # Born, and maybe not its program yet: the init answers when it is, or when it is known not to become it.
            try:
                self.processes()
            except SetupError:
                self._until(lambda: told.over)
        return told

    def ended(self, number: int) -> Told:
        """Wait until a program has ended, or is known not to have started; :meth:`forget` gives its descriptors back."""
        told = self.known(number)
        self._until(lambda: told.over)
        return told

    def has_ended(self, number: int, timeout: float = 0.0) -> bool:
        """Whether a program has ended, or never started; waits ``timeout`` seconds for it at the most."""
        told = self.known(number)
        return self._until(lambda: told.over, time.monotonic() + timeout)

    def known(self, number: int) -> Told:
        """What was told of a program so far.

        :raises SetupError: where the jail was closed.
        """
        told = self._told.get(number)
        if told is None:
            raise SetupError("the jail was closed")
        return told

    def output(self, number: int) -> tuple[bytes, bytes]:
        """What a program wrote so far to its standard output and error."""
        return self.output_since(number, (0, 0))

    def output_since(self, number: int, offsets: tuple[int, int]) -> tuple[bytes, bytes]:
        """What a program wrote so far beyond these numbers of bytes."""
        told = self.known(number)
        return _content(told.out, offsets[0]), _content(told.err, offsets[1])

    def written(self, number: int) -> tuple[int, int]:
        """How many bytes of each that is."""
        told = self.known(number)
        return os.fstat(told.out).st_size, os.fstat(told.err).st_size

    def forget(self, number: int) -> None:
        """Give back what is held for a program that has ended: its outputs, and its layer unless somebody took it."""
        _release(self._told.pop(number))

    def signal(self, number: int, signal: int) -> None:
        """Send a signal to a program that runs."""
        self._say({"do": "signal", "number": number, "signal": signal})

    def stop(self, number: int, grace: float) -> None:
        """SIGTERM now and, after ``grace`` seconds, SIGKILL."""
        self._say({"do": "stop", "number": number, "grace": grace})

    def processes(self) -> tuple[Process, ...]:
        """Everybody in the jail but its init."""
        with self._asking:
            found = self._everybody = []
            self._say({"do": "processes"})
            self._until(lambda: self._everybody is None)
            return tuple(found)

    def channel(self) -> socket.socket:
        """A channel of its own to the jail's :class:`pytest_nsjail.jail.agent.Agent`, for :mod:`pytest_nsjail.jail.sockets`.

        :raises SetupError: where the init is gone.
        """
        ours, theirs = wire.pair()
        with theirs:
            try:
                self._say({"do": "serve"}, [theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        return ours

    def close(self) -> None:
        """End the jail: its init exits when the socket closes, and the kernel kills everybody in it."""
        with self._lock:
            if not self.closed and not self.foreign:
                # Whoever listens in another thread keeps the socket open until he is woken.
                try:
                    self._sock.shutdown(socket.SHUT_RDWR)
                except OSError:  # the init is gone already
                    pass
            self._sock.close()
            while self._told:
                _release(self._told.popitem()[1])

    @property
    def foreign(self) -> bool:
        """Whether this is a fork of the process that the jail is. What is told of a jail is told once: a fork that heard it would take it from that one."""
        return forks.depth() != self._owner

    @property
    def closed(self) -> bool:
        """Whether it was given up: nothing more can be learnt of its programs."""
        return self._sock.fileno() < 0

    def _say(self, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
        try:
            wire.send(self._sock, body, fds)
        except OSError as error:
            raise SetupError("the jail's init is gone", error.errno) from error

    def _until(self, done: Callable[[], bool], deadline: float | None = None) -> bool:
        """Listen until something is so, or the deadline has passed. Several threads may: one listens for all."""
        me = threading.get_ident()
        if self.foreign and self._everybody is None and not done():
            if deadline is not None:
                return False
            raise SetupError("hear what became of a jail in another process than that which started it")
        while True:
            with self._lock:
                if done():
                    return True
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                # Ourselves, where an exception out of nowhere, as of Ctrl-C, kept us from saying that we do no more.
                if self._listener not in (None, me):
                    if not self._turn.wait(left):
                        return done()
                    continue
                self._listener = me
            try:
                said = self._receive(left)
                if said is not _NOTHING:
                    with self._lock:
                        self._hear(said)
            finally:
                with self._lock:
                    self._listener = None
                    self._turn.notify_all()
            if said is _NOTHING:
                return False

    def _receive(self, seconds: float | None) -> wire.Received | None:
        """The next message, ``_NOTHING`` when none came in time, or None when the init is gone."""
        try:
            if seconds is not None:
                poll = select.poll()
                poll.register(self._sock, select.POLLIN)
                if not poll.poll(seconds * 1000):
                    return _NOTHING
            return wire.receive(self._sock)
        except (OSError, ValueError):
            if self.closed:
                raise SetupError("the jail was closed") from None
            raise

    def _hear(self, said: wire.Received | None) -> None:
        if said is None:
            if self.closed:
                raise SetupError("the jail was closed")
            main = next(iter(self._told.values()), None)
            if main and main.over:
                raise SetupError("the jail has ended with its main program")
            self.lost = True
            raise SetupError("the jail's init was killed from outside, or its zygote was")
        body = said.body
        event = body["event"]
        if event == "broken":
            raise SetupError(f"the jail's init failed: {body['error']}")
        if event == "process":
            if self._everybody is not None:
                self._everybody.append(Process(body["pid"], said.pid, tuple(body["argv"])))
            return
        if event == "everybody":
            self._everybody = None
            return
        if event == "leftover":
            for told in self._told.values():
                told.leftovers.append(Process(body["pid"], said.pid, tuple(body["argv"])))
            return
        if body["number"] not in self._told:
            return  # closed or forgotten meanwhile
        told = self._told[body["number"]]
        if event == "born":
            told.born, told.host_pid = True, said.pid
        elif event == "failed":
            told.host_pid, told.failure = 0, (body["step"], body["errno"], body["path"])
        elif event == "exited":
            told.report = body
            told.layer = said.fds[0] if said.fds else None


def _release(told: Told) -> None:
    for fd in (told.out, told.err, *(() if told.layer is None else (told.layer,))):
        os.close(fd)


def _file(content: bytes) -> int:
    fd = os.memfd_create("nsjail-stdin", os.MFD_CLOEXEC)
    with open(os.dup(fd), "wb") as file:
        file.write(content)
    return fd


def _content(fd: int, offset: int) -> bytes:
    chunks = []
    while chunk := os.pread(fd, 1 << 20, offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)

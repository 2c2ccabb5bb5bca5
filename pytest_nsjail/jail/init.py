"""PID 1 of a jail: makes it, starts programs in it, reaps everybody, says what happened, and takes all with it when it ends.

It lives as long as its socket: pytest's end gone, it exits, and the kernel kills whoever is left in its namespace
(pid_namespaces(7)). It holds no descriptor of the host's but that socket, the memory files it writes output to, and
the doors of its control groups; it may not be dumped, and the payload has no capability over it.

A payload that is root of its jail has the init's uid, though, and prlimit(2), setpriority(2) and sched_setaffinity(2) ask for no more:
it can take descriptors or CPU time from its own init. That ends its jail, as an error that says so, and touches no other; a seccomp filter
against it would cost every start 25 to 30 us.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from typing import Any, NoReturn

from pytest_nsjail.jail.agent import Agent
from pytest_nsjail.jail.command import REHEARSAL, Command
from pytest_nsjail.jail.last_words import tell
from pytest_nsjail.jail.notices import Notices
from pytest_nsjail.jail.observer import Observer
from pytest_nsjail.jail.perform import Site
from pytest_nsjail.jail.poll import Poll
from pytest_nsjail.jail.runs import Runs
from pytest_nsjail.jail.steps import Step, decode, describe
from pytest_nsjail.kernel import syscall, wire
from pytest_nsjail.kernel.idmap import IdMap


class Init:
    """One.

    :param sock: to pytest.
    :param ahead: the steps that are done before anybody asks for a program.
    :param idmap: the map of the first program's user namespace, where it is known.
    """

    def __init__(self, sock: socket.socket, ahead: Sequence[Step], idmap: IdMap | None) -> None:
        self._sock, self._ahead, self._idmap = sock, ahead, idmap
        self._site, self._poll = Site(), Poll()
        self._notices, self._observer = Notices(self._poll), Observer(self._poll)
        self._agent = Agent(self._poll, self._site, self._notices, self._observer)
        self._runs = Runs(sock, self._poll, self._site, self._observer)

    def serve(self) -> NoReturn:
        """Until the main program's end is told, or pytest is gone."""
        try:
            syscall.set_process_name("nsjail-init")
            self._perform(self._ahead)
            self._rehearse()
            born = self._runs.bear_ahead(self._idmap) if self._idmap is not None else None
            tell(self._sock, {"event": "prepared", "born": born is not None}, pid=born)
            self._poll.watch(self._sock.fileno(), self._obey)
            _wake_on_children(self._poll)
            while True:
                self._poll.wait(self._runs.patience())
                self._runs.look_after()
        except BaseException as error:
            trace = error.__traceback__
            while trace and trace.tb_next:
                trace = trace.tb_next
            where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
            tell(self._sock, {"event": "broken", "error": f"{type(error).__name__}: {error}{where}"})
        os._exit(1)

    def _rehearse(self) -> None:
        """Do once, without effect, what will be done when somebody waits for it.

        After a fork the first write to a page copies it, and Python writes to the reference counts of all it touches: a millisecond in all,
        that is better spent before anybody has asked.
        """
        ours, theirs = wire.pair()
        wire.send(ours, {"do": "", "command": REHEARSAL.encode()}, (self._site.sysctls,), pid=os.getpid())
        if said := wire.receive(theirs):
            Command.decode(said.body["command"])
            os.close(said.fds[0])
        ours.close()
        theirs.close()
        self._runs.rehearse()

    def _perform(self, steps: Sequence[Step], **about: Any) -> None:
        """Do them. Where one fails there is no jail: it is told, with what else is known of it."""
        for step in steps:
            try:
                self._site.perform(step)
            except OSError as error:
                tell(self._sock, {"event": "failed", "step": describe(step), "errno": error.errno or 0, "path": os.fsdecode(error.filename or ""), **about})
                os._exit(0)

    def _obey(self, _: int) -> None:
        asked = wire.receive(self._sock)
        if asked is None:
            os._exit(0)
        body = asked.body
        match body["do"]:
            case "run":
                given, fds = body["given"], asked.fds
                self._site.given = dict(zip(given, fds, strict=False))
                self._perform([decode(step) for step in body["steps"]], number=body["number"])
                self._site.release_given()
                command = Command.decode(body["command"])
                if command.notify:
                    self._notices.listen(command.notify)
                self._runs.begin(body["number"], command, fds[len(given) :])
            case "serve":
                self._agent.admit(asked.fds[0])
            case "signal":
                self._runs.signal(body["number"], body["signal"])
            case "stop":
                self._runs.stop(body["number"], body["grace"])
            case "processes":
                self._runs.await_all()


def _wake_on_children(poll: Poll) -> None:
    """Let no wait go on when a child has ended."""
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    def forget(_: int) -> None:
        os.read(woken, 4096)

    poll.watch(woken, forget)

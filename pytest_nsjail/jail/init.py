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
import select
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from pytest_nsjail.jail import processes
from pytest_nsjail.jail.agent import Agent, listening
from pytest_nsjail.jail.command import REHEARSAL, Command
from pytest_nsjail.jail.echo import Echo
from pytest_nsjail.jail.last_words import clear, leave, tell
from pytest_nsjail.jail.notices import Notices
from pytest_nsjail.jail.observer import Observer
from pytest_nsjail.jail.payload import Failed, Payload, can_wait
from pytest_nsjail.jail.perform import Site
from pytest_nsjail.jail.pump import Pump
from pytest_nsjail.jail.run import Run
from pytest_nsjail.jail.steps import Step, decode, describe
from pytest_nsjail.kernel import seccomp, syscall, wire
from pytest_nsjail.kernel.idmap import IdMap
from pytest_nsjail.kernel.procfs import FIRST, number_next


class Init:
    """The loop."""

    def __init__(self, sock: socket.socket, ahead: Sequence[Step], idmap: IdMap | None) -> None:
        self._sock = sock
        self._site = Site()
        self._ahead = ahead
        self._idmap = idmap
        self._waiting: Payload | None = None
        self._runs: dict[int, Run] = {}
        self._payloads: dict[int, Payload] = {}
        self._awaited: dict[int, Payload] | None = None
        self._main: Run | None = None
        self._door: int | None = None
        self._groups: list[int] = []
        self._usage = [0.0, 0.0, 0]
        self._poll = select.poll()
        self._notices = Notices(self._poll)
        self._observer = Observer(self._poll)
        self._observed: dict[int, Payload] = {}
        self._agent = Agent(self._poll, self._site, self._notices, self._observer)

    def serve(self) -> NoReturn:
        """Until the main program's end is told, or pytest is gone."""
        try:
            syscall.set_process_name("nsjail-init")
            failure = self._perform(self._ahead)
            if failure is not None:
                self._tell(failure)
                os._exit(0)
            self._rehearse()
            self._bear_ahead()
            self._tell({"event": "prepared", "born": self._waiting is not None}, pid=self._waiting.pid if self._waiting else None)
            woken = _wake_on_children()
            self._poll.register(self._sock, select.POLLIN)
            self._poll.register(woken, select.POLLIN)
            while True:
                for fd, events in self._poll.poll(self._patience()):
                    if fd == self._sock.fileno():
                        self._obey()
                    elif fd == woken:
                        os.read(woken, 4096)
                    elif fd in self._observed:
                        self._observe(self._observed[fd])
                    elif self._observer.hears(fd):
                        self._observer.hear(fd, events)
                    elif self._awaited and fd in self._awaited:
                        self._begun(self._awaited, fd)
                    elif self._agent.hears(fd):
                        self._agent.answer(fd)
                    elif fd == self._notices.fd:
                        self._notices.hear()
                    else:
                        self._carry(fd)
                self._reap()
                self._look_after()
                if self._awaited == {}:
                    self._tell_all()
        except BaseException as error:
            trace = error.__traceback__
            while trace and trace.tb_next:
                trace = trace.tb_next
            where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
            self._tell({"event": "broken", "error": f"{type(error).__name__}: {error}{where}"})
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
        payload = Payload(None, self._site.sysctls)
        payload.order(REHEARSAL)
        payload.discard()
        Run(0, 0, REHEARSAL, [], main=True).patience()
        self._full()
        self._reap()
        self._patience()

    def _perform(self, steps: Sequence[Step]) -> dict[str, Any] | None:
        for step in steps:
            try:
                self._site.perform(step)
            except OSError as error:
                return {"event": "failed", "step": describe(step), "errno": error.errno or 0, "path": os.fsdecode(error.filename or "")}
        return None

    def _bear_ahead(self) -> None:
        """Have the payload born before it is known what it becomes, where it is known who."""
        if self._idmap is not None and can_wait():
            payload = Payload(None, self._site.sysctls)
            # What failed now fails again when somebody waits for it, and is told then.
            if payload.bear(self._idmap, self._site.proc) is None:
                self._waiting = payload

    def _tell(self, body: dict[str, Any], fds: Sequence[int] = (), *, pid: int | None = None) -> None:
        tell(self._sock, body, fds, pid=pid)

    # What pytest asks

    def _obey(self) -> None:
        asked = wire.receive(self._sock)
        if asked is None:
            os._exit(0)
        body = asked.body
        match body["do"]:
            case "run":
                given, fds = body["given"], asked.fds
                self._site.given = dict(zip(given, fds, strict=False))
                failure = self._perform([decode(step) for step in body["steps"]])
                if failure is not None:
                    self._tell({**failure, "number": body["number"]})
                    os._exit(0)
                self._site.release_given()
                self._run(body["number"], Command.decode(body["command"]), fds[len(given) :])
            case "serve":
                self._agent.admit(asked.fds[0])
            case "signal":
                if run := self._runs.get(body["number"]):
                    os.kill(run.pid, body["signal"])
            case "stop":
                if run := self._runs.get(body["number"]):
                    run.terminate(body["grace"])
            case "processes":
                # Once everybody is what it was started for, or is known not to become it.
                self._awaited = {payload.up: payload for payload in self._payloads.values()}
                for up in self._awaited:
                    self._poll.register(up, select.POLLIN if up in self._observed else 0)

    def _tell_all(self) -> None:
        self._awaited = None
        for process in processes.seen():
            try:
                self._tell({"event": "process", "pid": process.pid, "argv": process.argv}, pid=process.pid)
            except ProcessLookupError:
                continue
        self._tell({"event": "everybody"})

    def _run(self, number: int, command: Command, fds: list[int]) -> None:
        if command.observe and (refused := seccomp.refusal()):
            self._observer.off = refused
            command = command._replace(observe=False)
        out, err, *rest = fds
        echoes = [Echo(stream, rest.pop(0), command.label) for stream in (out, err)] if command.label else [None, None]
        source = rest.pop(0) if command.stdin else None
        if self._main is None:
            self._groups = rest
        if command.notify:
            self._notices.listen(command.notify)
        payload, failure = self._bear(number, command)
        failure = failure or payload.go()
        if failure is not None:
            for echo in filter(None, echoes):
                echo.end()
            for fd in (out, err, *(() if source is None else (source,))):
                os.close(fd)
            self._tell_failure(number, command, failure, last=self._main is None)
            return
        if self._main is None:
            _forget_streams()
        pumps = [Pump(fd, to, outward=True, echo=echo) for fd, to, echo in zip((payload.out, payload.err), (out, err), echoes, strict=True)]
        if source is not None:
            pumps.append(Pump(source, payload.into, outward=False))
        run = Run(number, payload.pid, command, pumps, main=self._main is None)
        self._runs[number], self._payloads[number] = run, payload
        self._main, self._door = self._main or run, payload.door
        for pump in pumps:
            self._poll.register(pump.fd, pump.events)
        if command.observe and not self._observer.off:
            self._observed[payload.up] = payload
            self._poll.register(payload.up, select.POLLIN)

    def _observe(self, payload: Payload) -> None:
        """A payload says who hears of its calls, before it is its program; or it has ended."""
        del self._observed[payload.up]
        self._poll.unregister(payload.up)
        if self._awaited and payload.up in self._awaited:
            self._poll.register(payload.up, 0)
        try:
            self._observer.admit(payload.listener())
        except OSError as error:
            self._observer.off = error.errno or 0

    def _bear(self, number: int, command: Command) -> tuple[Payload, Failed | None]:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            # What was born before has no descriptor of what is made now, and is in the namespaces of then.
            if waiting.idmap == command.idmap and not (self._groups or command.activate or self._site.moved):
                return waiting, waiting.order(command)
            waiting.discard()
            # A program is number 2 in its jail, whatever was in its place.
            number_next(self._site.sysctls, FIRST)
        payload = Payload(self._door, self._site.sysctls)
        listeners: list[int] = []
        try:
            for port in command.activate:
                listeners.append(listening(port))
        except OSError as error:
            payload.discard()
            return payload, Failed(f"listen on port {port} for the program", error.errno or 0)
        failure = payload.order(command, listeners) or payload.bear(command.idmap, self._site.proc, self._groups)
        for fd in listeners:
            os.close(fd)
        if failure is None:
            self._tell({"event": "born", "number": number}, pid=payload.pid)
        return payload, failure

    def _begun(self, awaited: dict[int, Payload], up: int) -> None:
        """A payload is its program by now; or has given up, and then its end is told first."""
        self._poll.unregister(up)
        if awaited[up].failure() is None:
            del awaited[up]

    def _tell_failure(self, number: int, command: Command, failure: Failed, *, last: bool) -> None:
        self._tell({"event": "failed", "number": number, "step": failure.step, "errno": failure.errno, "path": command.programs[0]})
        if last:
            os._exit(0)

    def _patience(self) -> float | None:
        """How long to wait for anything to happen, in milliseconds; None for as long as it takes."""
        seconds = min((run.patience() for run in self._runs.values()), default=float("inf"))
        return None if seconds == float("inf") else max(0.0, seconds) * 1000

    def _look_after(self) -> None:
        # The main program last: with it all the others go.
        for run in reversed(list(self._runs.values())):
            if run.look_after():
                break

    # Ends

    def _reap(self) -> None:
        by_pid = {run.pid: run for run in self._runs.values()}
        ended = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if (run := by_pid.get(pid)) and run is not self._main:
                ended.append((run, status, [usage.ru_utime, usage.ru_stime, usage.ru_maxrss]))
            else:
                self._usage = [self._usage[0] + usage.ru_utime, self._usage[1] + usage.ru_stime, max(self._usage[2], usage.ru_maxrss)]
                if run:
                    ended.append((run, status, self._usage))
        # The main program last: with it the jail ends.
        for run, status, spent in sorted(ended, key=lambda one: one[0] is self._main):
            self._end(run, status, spent)

    def _end(self, run: Run, status: int, usage: list[Any]) -> None:
        took = run.age()
        last = run is self._main
        payload = self._payloads.pop(run.number)
        if payload.up in self._observed:
            self._observe(payload)
        if self._awaited and self._awaited.pop(payload.up, None):
            with suppress(KeyError):
                self._poll.unregister(payload.up)
        payload.close()
        if last:
            self._clear_out(run)
        for pump in run.pumps:
            if pump.open:
                if pump.events == select.POLLIN:
                    pump.drain()
                if pump.open:
                    self._poll.unregister(pump.fd)
                    pump.close()
        if (failure := payload.failure()) is not None:
            del self._runs[run.number]
            self._tell_failure(run.number, run.command, failure, last=last)
            return
        layer = self._site.layers[0]
        changed = layer.changed()
        body = {
            "event": "exited",
            "number": run.number,
            "status": status,
            "took": took,
            "usage": usage,
            "timed_out": run.timed_out,
            "exceeded": run.exceeded,
            "full": self._full(),
            "dropped": [pump.dropped for pump in run.pumps[:2]],
            "changes": changed,
            **({"reached": self._observer.attempts()} if last and (run.command.observe or self._observer.off) else {}),
        }
        fds = [layer.upper] if changed else []
        if last:
            leave(self._sock, body, fds)
        self._tell(body, fds)
        del self._runs[run.number]

    def _clear_out(self, main: Run) -> None:
        """Tell who is still there when the main program has ended, and kill them."""
        watched = main.command.watch.get("processes")
        if processes.alone():
            return
        if watched is not None and processes.tasks() + 1 >= watched:
            main.exceeded["processes"] = "watch"
        clear(self._sock)

    def _full(self) -> list[str]:
        """The bounded file systems without a free block: the throwaway layer as ``/``."""
        found = []
        places: list[tuple[str, int | str]] = [(layer.prefix or "/", layer.upper) for layer in self._site.layers]
        places += [(path, path) for path in self._site.bounded]
        for name, where in places:
            try:
                space = os.statvfs(where)
            except OSError:
                continue
            if space.f_blocks and not space.f_bavail:
                found.append(name)
        return found

    def _carry(self, fd: int) -> None:
        for run in self._runs.values():
            for pump in run.pumps:
                if pump.fd == fd and pump.open:
                    pump.carry()
                    if not pump.open:
                        self._poll.unregister(fd)


def _forget_streams() -> None:
    """Let go of the standard streams that were the host's: they become the jail's own null device."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)


def _wake_on_children() -> int:
    """A descriptor that can be read when a child has ended."""
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return woken

"""The programs of a jail, as its init has them: they are born, looked after, reaped, and told of."""

from __future__ import annotations

import os
import select
import socket
from functools import partial
from typing import Any

from pytest_nsjail.jail import processes
from pytest_nsjail.jail.agent import listening
from pytest_nsjail.jail.command import REHEARSAL, Command
from pytest_nsjail.jail.echo import Echo
from pytest_nsjail.jail.last_words import clear, leave, tell
from pytest_nsjail.jail.observer import Observer
from pytest_nsjail.jail.payload import Failed, Payload, can_wait
from pytest_nsjail.jail.perform import Site
from pytest_nsjail.jail.poll import Poll
from pytest_nsjail.jail.pump import Pump
from pytest_nsjail.jail.run import Run
from pytest_nsjail.jail.space import full
from pytest_nsjail.kernel import seccomp
from pytest_nsjail.kernel.idmap import IdMap
from pytest_nsjail.kernel.procfs import FIRST, number_next


class Runs:
    """All of them. With the end of the first one, the main program, the jail ends.

    :param sock: to pytest.
    :param poll: where their streams are waited for.
    :param site: where the jail was put together.
    :param observer: sees the calls of those who are to be observed.
    """

    def __init__(self, sock: socket.socket, poll: Poll, site: Site, observer: Observer) -> None:
        self._sock, self._poll, self._site, self._observer = sock, poll, site, observer
        self._waiting: Payload | None = None
        self._runs: dict[int, Run] = {}
        self._payloads: dict[int, Payload] = {}
        self._main: Run | None = None
        # Of what they have before they are their programs: who says that he is observed, and who is asked for by pytest.
        self._observed: set[int] = set()
        self._awaited: set[int] | None = None
        self._door: int | None = None
        self._groups: list[int] = []
        self._usage = [0.0, 0.0, 0]

    def rehearse(self) -> None:
        """Do without effect what is done for each of them, see :meth:`pytest_nsjail.jail.init.Init.serve`."""
        payload = Payload(None, self._site.sysctls)
        payload.order(REHEARSAL)
        payload.discard()
        Run(0, 0, REHEARSAL, [], main=True).patience()
        full(self._site)
        self.reap()
        self.patience()

    def bear_ahead(self, idmap: IdMap) -> int | None:
        """Have the first one born before it is known what it becomes.

        :return: its pid; None where there is none.
        """
        if not can_wait():
            return None
        payload = Payload(None, self._site.sysctls)
        # What failed now fails again when somebody waits for it, and is told then.
        if payload.bear(idmap, self._site.proc) is not None:
            return None
        self._waiting = payload
        return payload.pid

    def begin(self, number: int, command: Command, fds: list[int]) -> None:
        """One more program.

        :param number: what pytest knows it by.
        :param fds: where its outputs go; where they are repeated, if they are; what its input comes from, if it has any; and, of the main program,
            the control groups of all.
        """
        if command.observe and (refused := seccomp.refusal()):
            self._observer.off = refused
            command = command._replace(observe=False)
        out, err, *rest = fds
        echoes = [Echo(stream, rest.pop(0), command.label) for stream in (out, err)] if command.label else [None, None]
        source = rest.pop(0) if command.stdin else None
        if self._main is None:
            self._groups = rest
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
            self._poll.watch(pump.fd, partial(self._carry, pump), pump.events)
        if command.observe and not self._observer.off:
            self._observed.add(payload.up)
            self._poll.watch(payload.up, partial(self._is_up, payload))

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
            tell(self._sock, {"event": "born", "number": number}, pid=payload.pid)
        return payload, failure

    def _carry(self, pump: Pump, _: int) -> None:
        pump.carry()
        if not pump.open:
            self._poll.forget(pump.fd)

    def _is_up(self, payload: Payload, _: int) -> None:
        """A payload says who hears of its calls, before it is its program; or it is that by now; or it has ended."""
        up = payload.up
        if up in self._observed:
            self._admit(payload)
            if self._awaited and up in self._awaited:
                self._poll.watch(up, partial(self._is_up, payload), 0)
            return
        self._poll.forget(up)
        # Where it has given up its end is told first.
        if self._awaited and payload.failure() is None:
            self._awaited.discard(up)

    def _admit(self, payload: Payload) -> None:
        self._observed.discard(payload.up)
        self._poll.forget(payload.up)
        try:
            self._observer.admit(payload.listener())
        except OSError as error:
            self._observer.off = error.errno or 0

    def signal(self, number: int, what: int) -> None:
        """Send one of them a signal, if it is still there."""
        if run := self._runs.get(number):
            os.kill(run.pid, what)

    def stop(self, number: int, grace: float) -> None:
        """End it, if it is still there; see :meth:`pytest_nsjail.jail.run.Run.terminate`."""
        if run := self._runs.get(number):
            run.terminate(grace)

    def await_all(self) -> None:
        """Tell of all processes of the jail, once everybody is what it was started for, or is known not to become it."""
        self._awaited = {payload.up for payload in self._payloads.values()}
        for payload in self._payloads.values():
            if payload.up not in self._observed:
                self._poll.watch(payload.up, partial(self._is_up, payload), 0)

    def patience(self) -> float | None:
        """In how many seconds they want to be looked after again; None: whenever something has happened."""
        seconds = min((run.patience() for run in self._runs.values()), default=float("inf"))
        return None if seconds == float("inf") else max(0.0, seconds)

    def look_after(self) -> None:
        """Whenever something has happened: who has ended, whose time is over, what is to be told."""
        self.reap()
        # The main program last: with it all the others go.
        for run in reversed(list(self._runs.values())):
            if run.look_after():
                break
        if self._awaited is not None and not self._awaited:
            self._awaited = None
            for process in processes.seen():
                try:
                    tell(self._sock, {"event": "process", "pid": process.pid, "argv": process.argv}, pid=process.pid)
                except ProcessLookupError:
                    continue
            tell(self._sock, {"event": "everybody"})

    def reap(self) -> None:
        """Whoever has ended."""
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
            self._admit(payload)
        self._poll.forget(payload.up)
        if self._awaited:
            self._awaited.discard(payload.up)
        payload.close()
        if last:
            self._clear_out(run)
        for pump in run.pumps:
            if pump.open:
                if pump.events == select.POLLIN:
                    pump.drain()
                self._poll.forget(pump.fd)
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
            "full": full(self._site),
            "dropped": [pump.dropped for pump in run.pumps[:2]],
            "changes": changed,
            **({"reached": self._observer.attempts()} if last and (run.command.observe or self._observer.off) else {}),
        }
        fds = [layer.upper] if changed else []
        if last:
            leave(self._sock, body, fds)
        tell(self._sock, body, fds)
        del self._runs[run.number]

    def _clear_out(self, main: Run) -> None:
        """Tell who is still there when the main program has ended, and kill them."""
        watched = main.command.watch.get("processes")
        if processes.alone():
            return
        if watched is not None and processes.tasks() + 1 >= watched:
            main.exceeded["processes"] = "watch"
        clear(self._sock)

    def _tell_failure(self, number: int, command: Command, failure: Failed, *, last: bool) -> None:
        tell(self._sock, {"event": "failed", "number": number, "step": failure.step, "errno": failure.errno, "path": command.programs[0]})
        if last:
            os._exit(0)


def _forget_streams() -> None:
    """Let go of the standard streams that were the host's: they become the jail's own null device."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)

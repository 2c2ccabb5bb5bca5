"""A running jail, as a test holds it."""

from __future__ import annotations

import itertools
import shlex
import signal as signals
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from pytest_nsjail.errors import JailEnded, ProgramFailed, SetupError, SpecError
from pytest_nsjail.fileview import FileView
from pytest_nsjail.jail.bounds import Bounds
from pytest_nsjail.jail.command import Command
from pytest_nsjail.jail.handle import Handle, Process, Told
from pytest_nsjail.jail.outcome import ended
from pytest_nsjail.jail.sockets import Sockets
from pytest_nsjail.kernel.cgroup import Counters
from pytest_nsjail.network.endpoint import Endpoint
from pytest_nsjail.network.network import Network
from pytest_nsjail.network.observed import Attempt, attempts
from pytest_nsjail.network.publisher import Publication
from pytest_nsjail.runtime.execution import Execution
from pytest_nsjail.runtime.identity import identify
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.order import GRACE, command
from pytest_nsjail.runtime.ready import wait
from pytest_nsjail.runtime.result import Result
from pytest_nsjail.runtime.verdict import Verdict
from pytest_nsjail.runtime.watch import Subject
from pytest_nsjail.spec import ready
from pytest_nsjail.spec.check import StrPath
from pytest_nsjail.spec.jail import JailSpec
from pytest_nsjail.spec.ready import Ready

_MAIN = 1
# The last word of an init that could not say it: killed, as its program was.
_UNTOLD = {
    "status": signals.SIGKILL, "took": 0.0, "usage": (0.0, 0.0, 0), "timed_out": False, "exceeded": {}, "full": (), "dropped": (0, 0), "changes": (),
}


class Jail(Endpoint):
    """A program in a jail. Leaving it as a context manager stops it; with its end everything in it ends.

    :ivar spec: what was declared, as the hooks left it.
    """

    def __init__(
        self, spec: JailSpec, main: Command, handle: Handle, bounds: Bounds, publication: Publication, *,
        view: FileView, image: Image, finished: Callable[[JailSpec, Result], None],
    ) -> None:
        self._sockets = Sockets(self._channel, self._over)
        super().__init__(self._sockets, publication.published)
        self._publication = publication
        self.spec = spec
        self._main, self._handle, self._bounds = main, handle, bounds
        self._view, self._finished = view, finished
        self._verdict = Verdict(image, view, main)
        self._numbers = itertools.count(_MAIN + 1)
        self._result: Result | None = None
        # Held while a result is read from what close() gives back, so that who finds the jail closed finds the result as well.
        self._gathering = threading.RLock()

    def join(self, network: Network) -> None:
        """Give it its place in a network, before its program starts; the runtime does."""
        self._member = network.join(self, self._sockets, name=self.spec.name, hostname=self.spec.hostname)

    @property
    def name(self) -> str | None:
        """What the others in its network call it; None where it is in none."""
        return self._member.name if self._member else None

    @property
    def host_pid(self) -> int:
        """Its main program's process id on the host; 0 where it never ran."""
        if self._result is None:
            try:
                return self._handle.started(_MAIN).host_pid
            except SetupError:
                if self._result is None:
                    raise
        return self._result.host_pid

    @property
    def stdout(self) -> str:
        """What its main program has written to its standard output so far."""
        with self._gathering:
            return self._result.stdout if self._result else self._handle.output(_MAIN)[0].decode(errors="surrogateescape")

    @property
    def stderr(self) -> str:
        """What its main program has written to its standard error so far."""
        with self._gathering:
            return self._result.stderr if self._result else self._handle.output(_MAIN)[1].decode(errors="surrogateescape")

    @property
    def logs(self) -> str:
        """Both outputs of its main program so far, the standard output first."""
        return self.stdout + self.stderr

    def written(self) -> tuple[int, int]:
        """How many bytes its main program has written to its standard output and error so far; of the first 64 MiB of each."""
        with self._gathering:
            return self._result.written() if self._result else self._handle.written(_MAIN)

    def said(self, since: tuple[int, int] = (0, 0)) -> tuple[str, str]:
        """What its main program has written to its standard output and error, from some number of bytes of each on."""
        out, err = self._output_since(since)
        return out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape")

    @property
    def ended(self) -> bool:
        """Whether its main program has ended, or never ran."""
        return self._has_ended()

    def ipc(self) -> dict[str, int]:
        """What another jail needs to share its IPC namespace: descriptors, the caller's, by the names in :data:`Site.given`.

        :raises JailEnded: where it has ended.
        """
        if self._handle.closed or self.ended:
            raise self._over("share the IPC namespace of")
        return self._sockets.ipc()

    @property
    def refused(self) -> tuple[Attempt, ...]:
        """With ``observe=True``: what its programs tried to reach so far where nobody is, each with its address, what they were told, and who it was.

        Seen are connect(2) of TCP, and sendto(2) of UDP with an address, in the jail's own network: to an address of its own where nobody listens, and to
        one that no way leads to, as every address of the Internet's. Of connect(2) of UDP that to port 53, by which names are resolved, and to what is
        unreachable. Not seen: what another jail of the network refuses; unix sockets; sendmsg(2); what goes through io_uring(7), comes from a 32-bit
        program, or from a network that a program has made itself. At most 1,000 that are unlike each other.

        An observed program waits for the jail's init at each of those calls, a tenth of a millisecond or two, and cannot have a supervisor of its own
        (seccomp_unotify(2)): it is told EBUSY. A signal in that moment, whose handler was installed without SA_RESTART (as Python's signal.signal() does),
        may end the call with EINTR before it was made; a Python program takes that for a connection that is on its way. Hence nobody is observed unasked.

        :raises SpecError: where it was started without ``observe=True``.
        :raises Unsupported: where this host does not let it be seen: before Linux 5.19, or where somebody else observes it already.
        """
        if not self.spec.observe:
            raise SpecError(f"refused of {self!r}", "it is not observed", "Start it with observe=True.")
        if self._result is None:
            try:
                return self._attempts(self._sockets.attempts())
            except SetupError:
                self.wait()
        assert self._result is not None
        return self._result.refused

    def processes(self) -> tuple[Process, ...]:
        """Every process in it, by its pid inside; none once it has ended."""
        if self._result is None:
            try:
                return self._handle.processes()
            except SetupError:
                # Asked while its main program ended: the init answers no more.
                self.wait()
        return ()

    def run(
        self, argv: Iterable[StrPath], *, env: Mapping[str, str] | None = None, workdir: StrPath | None = None, user: str | int | None = None,
        stdin: str | bytes | None = None, timeout: float | None = None, check: bool = False,
    ) -> Result:
        """Execute one more program in it and wait for its end.

        It has the main program's namespaces, control groups, limits, environment, working directory and user, but for what is given here. The image's
        entrypoint does not stand before it.

        :param check: whether anything but an exit with 0 is an error.
        :raises JailEnded: where the jail has.
        :raises ProgramFailed: with ``check``.
        """
        if self._result is not None:
            raise self._over(f"run {shlex.join(map(str, argv))} in")
        spec = self.spec.entering(argv, env=env, workdir=workdir, user=user, stdin=stdin, timeout=timeout)
        result = self._execute(spec).result()
        self._finished(spec, result)
        if check and not result.ok:
            raise ProgramFailed(result.report())
        return result

    def until(self, condition: Ready) -> None:
        """Wait until a condition is true, as ``ready=`` does at the start: ``jail.until(Log("checkpoint complete"))``.

        :param condition: a function of the jail has 30 s.
        :raises NotReady: where its main program ended before, or the condition's time is over; the jail runs on then.
        :raises SpecError: for what is no condition, and for ``Notify()`` where the program was started without.
        :raises Unsupported: where this kernel cannot tell who listens (sock_diag(7)).
        """
        subject = Subject(
            self, self._sockets, starting=condition is self.spec.ready, shared=self._shared, notified=bool(self._main.notify), output=self._output_since,
            execute=lambda argv, seconds: self._execute(self.spec.entering(argv, timeout=seconds)),
        )
        wait(subject, ready.condition(f"until({condition!r})", condition), self._has_ended)

    def signal(self, signal: int = signals.SIGTERM) -> None:
        """Send its main program a signal; one that has ended is left alone.

        :raises SpecError: for a number that is no signal.
        """
        if signal not in {0, *signals.valid_signals()}:
            raise SpecError(f"signal({signal!r})", "there is no such signal", "Write one of the module signal, as signal.SIGTERM.")
        if not self._has_ended():
            try:
                self._handle.signal(_MAIN, signal)
            except SetupError:
                if not self._has_ended():
                    raise

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for its main program's end.

        :param timeout: seconds; None waits as long as it takes.
        :raises TimeoutError: where it still runs then.
        """
        if self._handle.foreign and self._result is None:
            raise SetupError(f"wait for {shlex.join(self.spec.command())} in another process than that which started it")
        if timeout is not None and not self._has_ended(timeout):
            raise TimeoutError(f"{list(self.spec.command())!r} still runs after {timeout:g} s")
        if self._result is not None:
            return self._result
        try:
            told = self._ended()
            with self._gathering:
                if self._result is not None:
                    return self._result
                self._result = self._judge(self.spec, _MAIN, told)
        except SetupError:
            if self._result is None:
                raise
            return self._result
        finally:
            self.close()
        self._finished(self.spec, self._result)
        return self._result

    def stop(self, grace: float = GRACE) -> Result:
        """SIGTERM to its main program and, where it is still there after ``grace`` seconds, SIGKILL to everybody; then as :meth:`wait`."""
        if not self._has_ended():
            try:
                self._handle.stop(_MAIN, grace)
            except SetupError:
                pass  # it ended just now; whatever else befell it, wait() tells
        return self.wait()

    def close(self) -> None:
        """End it at once, without a word to anybody in it; in a fork of the process that started it: let go of it."""
        with self._gathering:
            if self._handle.foreign:
                self._sockets.close()
                self._handle.close()
                return
            if self._member is not None:
                self._member.network.leave(self._member)
            self._sockets.close()
            self._handle.close()
            self._publication.close()
            if self._bounds.group is not None:
                self._bounds.group.remove()

    def __enter__(self) -> Jail:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._result is None and self._handle.closed:
            return  # it broke, and whoever waited for it was told
        # On Ctrl-C nobody waits for a program's last words.
        if isinstance(error, Exception) or error is None:
            self.stop()
        else:
            self.close()

    def __repr__(self) -> str:
        return f"<Jail {list(self.spec.command())!r}: {self._result.status if self._result else 'running'}>"

    @property
    def _shared(self) -> bool:
        return self.spec.network == "host"

    def _holders(self, inodes: Iterable[int]) -> Mapping[int, Process]:
        held = self._sockets.holders(inodes)
        there = {process.pid: process for process in self.processes()} if held else {}
        return {inode: process for inode, pids in held.items() if (process := next((there[pid] for pid in sorted(pids) if pid in there), None))}

    def _attempts(self, told: Mapping[str, Any]) -> tuple[Attempt, ...]:
        there = {(process.pid, process.argv): process for process in (self.processes() if self._result is None and told["attempts"] else ())}
        return attempts(told, lambda pid, argv: there.get((pid, argv)) or Process(pid, 0, argv))

    def _output_since(self, offsets: tuple[int, int]) -> tuple[bytes, bytes]:
        with self._gathering:
            if self._result is None:
                return self._handle.output_since(_MAIN, offsets)
            return self._result.stdout_bytes[offsets[0] :], self._result.stderr_bytes[offsets[1] :]

    def _execute(self, spec: JailSpec) -> Execution:
        number = next(self._numbers)
        identity = identify(spec.account(), self._view, self._main.idmap, self._main.idmap)
        with self._alive(f"run {shlex.join(spec.argv)} in"):
            self._handle.run(number, command(spec, identity, self._bounds, echoed=bool(self._main.label)), spec.stdin)

        def gather(told: Told) -> Result:
            with self._gathering:
                return self._judge(spec, number, told)

        return Execution(self._handle, number, gather)

    def _channel(self) -> socket.socket:
        if self._result is not None:
            raise self._over()
        with self._alive("reach"):
            return self._handle.channel()

    def fate(self) -> str:
        """How its main program has ended, in words. Nothing is closed for that: who asks may be in the midst of things."""
        if self._handle.foreign and self._result is None:
            return "it is gone"
        try:
            report = None if self._result else self._ended().report
            return str(self._result.status if self._result else ended(report) if report else "it never ran")
        except SetupError as error:
            return error.step

    def _over(self, wanted: str = "reach") -> JailEnded:
        """What there is to say where it has ended."""
        instead = "Its last words are its logs; with ready= a program that ends at once is an error where it is started"
        return JailEnded(f"cannot {wanted} a jail that has ended: {shlex.join(self.spec.command())}: {self.fate()}. {instead}.")

    @contextmanager
    def _alive(self, wanted: str) -> Iterator[None]:
        """What takes its init: where that is gone, the end of its main program may be on its way to us."""
        try:
            yield
        except SetupError:
            if not (self._handle.foreign or self._has_ended()):
                raise
            raise self._over(wanted) from None

    def _has_ended(self, timeout: float = 0.0) -> bool:
        if self._handle.foreign and self._result is None:
            return not self._answers()
        try:
            return self._result is not None or self._handle.has_ended(_MAIN, timeout)
        except SetupError:
            # Another thread heard of the end first, or the init went the way of what it looked after.
            if self._result is None and not self._starved():
                self.close()
                raise
            return True

    def _answers(self) -> bool:
        """Whether its init does: all that a fork of the process that started it can know."""
        try:
            self._sockets.activity()
        except SetupError:
            return False
        return True

    def _ended(self) -> Told:
        try:
            return self._handle.ended(_MAIN)
        except SetupError:
            if not self._starved():
                raise
            told = self._handle.known(_MAIN)
            told.report = _UNTOLD
            return told

    def _starved(self) -> bool:
        """Whether the init is lost, and the kernel killed in here for memory."""
        counters = self._counters() if self._handle.lost else None
        return counters is not None and counters.oom_kills > 0

    def _judge(self, spec: JailSpec, number: int, told: Told) -> Result:
        return self._verdict.result(spec, told, self._handle.output(number), self._counters())

    def _counters(self) -> Counters | None:
        return self._bounds.group.counters() if self._bounds.group else None

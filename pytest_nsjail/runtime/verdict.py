"""What became of a program, from what its init told: a result, and the reason in words where it never ran."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from pytest_nsjail.errors import NsjailError, SetupError, StartError, Unsupported
from pytest_nsjail.fileview import FileView
from pytest_nsjail.image.changes import Changes
from pytest_nsjail.jail.command import Command
from pytest_nsjail.jail.handle import Process, Told
from pytest_nsjail.jail.outcome import Usage, interpret, usage
from pytest_nsjail.jail.payload import EXECUTE
from pytest_nsjail.jail.status import Exited, NotStarted
from pytest_nsjail.kernel.advice import explained
from pytest_nsjail.kernel.cgroup import Counters
from pytest_nsjail.network.observed import Attempt, attempts
from pytest_nsjail.resolve.lookup import DEFAULT_PATH
from pytest_nsjail.resolve.start import explain
from pytest_nsjail.resolve.walk import Walker
from pytest_nsjail.runtime import volumes
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.result import Result
from pytest_nsjail.spec.jail import JailSpec
from pytest_nsjail.spec.mount import Bind

# What glibc's and musl's loaders exit with when a library is not there (and a shell, for a program).
_NOT_FOUND = 127


class Verdict:
    """The judge of one jail's programs.

    :param image: its root file system, as it was built; ``view``: as its programs see it.
    :param main: its main program.
    """

    def __init__(self, image: Image, view: FileView, main: Command) -> None:
        self._image, self._view, self._main = image, view, main

    def result(self, spec: JailSpec, told: Told, output: tuple[bytes, bytes], counters: Counters | None) -> Result:
        """What happened to a program that has ended, or never ran.

        :param counters: what the kernel counted for the jail's control group.
        :raises SetupError: where its jail could not be made.
        """
        out, err = output
        if told.report is None:
            changes = Changes(None, self._image.view, ())
            return Result(spec.command(), NotStarted(self._refusal(spec, told)), out, err, 0.0, Usage(0.0, 0.0, 0), changes, (), 0, (), 0)
        report = told.report
        # Whose the descriptor is must be settled before the changes can fail to take it.
        layer, told.layer = told.layer, None
        changes = Changes(layer, self._image.view, [(path, what) for path, what in report["changes"]])
        largest = changes.largest_file() if spec.limits.file_size else 0
        status, exceeded = interpret(report, counters, spec.limits, timeout=spec.timeout, stderr=err, largest_file=largest)
        if status == Exited(_NOT_FOUND) and (error := self._explain(spec, None, err)):
            status = NotStarted(error)
        return Result(
            spec.command(), status, out, err, report["took"], usage(report, counters), changes, tuple(told.leftovers), told.host_pid, exceeded,
            sum(report["dropped"]), _reached(report),
        )

    def _refusal(self, spec: JailSpec, told: Told) -> NsjailError:
        step, number, path = told.failure or ("", 0, "")
        if step == EXECUTE:
            return self._explain(spec, number, b"") or StartError(path, os.strerror(number), errno=number)
        if step.startswith("enter the working directory"):
            workdir = spec.workdir or (spec.image.workdir if spec.image else None) or "/"
            return StartError(spec.command()[0], f"its working directory {workdir!r}: {os.strerror(number)}", f"Declare Directory({workdir!r}).", number)
        advice = ""
        if number in (errno.ENOENT, errno.ESTALE) and any(isinstance(mount, Bind) and str(mount.source) == path for mount in spec.mounts):
            # It was there, and the same, when pytest looked.
            advice = "It was mounted after the first jail of this session was made: mount it before pytest starts."
        if number in (errno.EINVAL, errno.EPERM) and "id-mapped" in step:
            advice = volumes.advice(path, self._main.uid, self._main.gid)
        raise explained(SetupError(f"{step}{f' ({path})' if path else ''}", number, advice))

    def _explain(self, spec: JailSpec, number: int | None, stderr: bytes) -> StartError | None:
        path = spec.environment().get("PATH", DEFAULT_PATH)
        error = explain(spec.command()[0], self._view, path=path, errno=number, stderr=stderr.decode(errors="replace"))
        if error is not None and (entry := self._image.files.get(Walker(self._view).walk(error.program).final)):
            # The resolver sees the jail alone; the manifest knows which declaration brought the program, from where.
            instead = error.instead.replace(f"Elf({error.program!r})", entry.wanted_by[-1].replace("File(", "Elf(", 1))
            error = StartError(error.program, error.problem, instead, error.errno)
        return error


def _reached(report: Mapping[str, Any]) -> tuple[Attempt, ...] | NsjailError | None:
    try:
        return attempts(report["reached"], lambda pid, argv: Process(pid, 0, argv)) if "reached" in report else None
    except Unsupported as error:
        return error

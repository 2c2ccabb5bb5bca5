"""The doctor's report, from what was tried and what is known: text from values."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Iterator

from pytest_nsjail.kernel.advice import advise
from pytest_nsjail.kernel.check import Check, Step, failed
from pytest_nsjail.kernel.facts import Facts
from pytest_nsjail.kernel.probe import summary

_WIDTH = 110
# Not what a jail is made of, but what it can be given.
_GIVEN = (Step.MEMORY.value, Step.PROCESSES.value, Step.IDS.value)


def report(checks: tuple[Check, ...], known: Facts, store: str) -> Iterator[str]:
    """The report's lines."""
    came = {check.step: check for check in checks}
    yield f"pytest-nsjail on Linux {known.release} ({platform.machine()}), as {known.user}{_where(known)}"
    yield ""
    yield "What a jail is made of"
    told: set[str] = set()
    for check in checks:
        if check.step not in _GIVEN:
            yield from _told(check, known, told)
    yield ""
    yield "What this host gives"
    yield from _given("users", _users(came, known))
    yield from _wanting(came.get(Step.IDS.value), known, told)
    yield from _given("memory", _held(came[Step.MEMORY.value], "looked after by the jail's init every few milliseconds: a burst may escape it"))
    yield from _given("processes", _held(came[Step.PROCESSES.value], _without_pids(known)))
    yield from _wanting(came[Step.PROCESSES.value], known, told)
    yield from _given("others", "CPU time, file size, open files: rlimits; time: the jail's init; tmpfs: its own size")
    yield from _given("store", _store(came[Step.OVERLAY.value], store))
    yield ""
    yield _verdict(checks)


def _where(known: Facts) -> str:
    system = {"wsl2": "WSL 2", "wsl1": "WSL 1", "gvisor": "gVisor"}.get(known.system, known.system)
    names = {"docker": "a Docker container", "podman": "a Podman container", "kubernetes": "a Kubernetes pod", "": ""}
    marks = ["a chroot" if known.chroot else "", names.get(known.container, f"a container ({known.container})"), system]
    return "".join(f", in {mark}" for mark in marks if mark)


def _told(check: Check, known: Facts, told: set[str]) -> Iterator[str]:
    if check.ok:
        yield f"  ok         {check.step}{f': {check.detail}' if check.detail else ''}"
    elif not check.tried:
        yield f"  not tried  {check.step}"
    else:
        more = f": {check.detail}" if check.detail and os.strerror(check.errno or 0) not in check.detail else ""
        yield f"  refused    {check.step}: {check.words}{more}"
        yield from _way(check, known, told)


def _wanting(check: Check | None, known: Facts, told: set[str]) -> Iterator[str]:
    if check and check.tried and not check.ok:
        yield from _way(check, known, told)


def _way(check: Check, known: Facts, told: set[str]) -> Iterator[str]:
    """The way out, once: a reason often stands in the way of several steps."""
    advice = advise(check.step, check.errno or 0, known)
    if advice and advice not in told:
        told.add(advice)
        for alternative in advice.splitlines():
            # A command is to be copied: it is not broken at its hyphens.
            first, rest = "             -> ", "                "
            yield from textwrap.wrap(alternative, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False)


def _given(name: str, what: str) -> Iterator[str]:
    yield from textwrap.wrap(what, _WIDTH, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13, break_on_hyphens=False, break_long_words=False)


def _users(came: dict[str, Check], known: Facts) -> str:
    check = came.get(Step.IDS.value)
    if check is None:
        return "any that this process's own user namespace has" if not known.initial else "any"
    if check.ok:
        return f"root, who is {known.user} outside, and a range of others (newuidmap)"
    if check.tried and check.needed:
        return f"none: {check.detail or check.words}"
    return f"one, who is {known.user} outside" + (f": {check.detail}" if check.detail else "")


def _held(check: Check, otherwise: str) -> str:
    return f"held by a control group ({check.detail})" if check.ok else otherwise


def _without_pids(known: Facts) -> str:
    if known.privileged and known.initial:
        return "for users but root by an rlimit; for root by nothing here, so that such a limit is an error"
    return "held by an rlimit, for all of a user's processes in the jail"


def _store(overlay: Check, store: str) -> str:
    where = f"{store} ({_file_system(store)})"
    if overlay.ok:
        return f"{where}: can lie under jails"
    return f"{where}: {'cannot lie under jails' if overlay.tried else 'not tried'}"


def _file_system(path: str) -> str:
    """What kind of file system a path is on, or would be."""
    real, best, found = os.path.realpath(path), "", "unknown"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                before, _, after = line.partition(" - ")
                point = before.split(" ")[4].replace("\\040", " ")
                if f"{real}/".startswith(f"{point.rstrip('/')}/") and len(point) >= len(best):
                    best, found = point, after.split(" ")[0]
    except OSError:
        pass
    return found


def _verdict(checks: tuple[Check, ...]) -> str:
    first = failed(checks)
    if first is None:
        return f"Jails can be made here ({summary(checks).removeprefix('nsjail: ')})."
    return f"No jail can be made here: {first.step}: {first.words}. The way out is above."

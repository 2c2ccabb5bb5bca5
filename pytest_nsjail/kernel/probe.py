"""What this host can do: a child process tries every step of making a jail (:func:`probe`), or facts tell (:func:`quick`)."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pytest_nsjail.kernel import capability
from pytest_nsjail.kernel.check import Check, Step, failed
from pytest_nsjail.kernel.facts import Facts, facts

_BOOTSTRAP = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); os.environ['PATH'] = sys.argv[4]\n"
    "from pytest_nsjail.kernel.trial import Trial; Trial(sys.argv[2], privileged=sys.argv[3] == 'privileged').run()"
)


def probe(place: str | None = None, *, seconds: float = 10.0) -> tuple[Check, ...]:
    """Try every step of making a jail, in a child process that is gone afterwards, with all it made.

    :param place: a directory on the store's file system, to which an overlay is tried; the first of its parents that exists
        stands for one that does not.
    :param seconds: the time it has; a step that takes longer is reported as timed out.
    :return: a check for each step, in order.
    """
    privileged = capability.has(capability.SYS_ADMIN)
    steps = [step for step in Step if not (privileged and step in (Step.IDS, Step.USER, Step.MAP))]
    directory, refusal = _room(place)
    if directory is None:
        checks = tuple(Check(step.value, None, "", tried=False) for step in steps)
    else:
        with directory as path:
            os.makedirs(f"{path}/lower/old")
            Path(f"{path}/lower/old/file").touch()
            said, end = _run(path, privileged, seconds)
        checks = _checks(said, end, steps)
    if refusal is None:
        return checks
    # Tried elsewhere, which says nothing of the store.
    overlay = Check(Step.OVERLAY.value, refusal.errno, f"no directory can be made at {place or refusal.filename}")
    return tuple(overlay if check.step == overlay.step else check for check in checks)


def _room(place: str | None) -> tuple[tempfile.TemporaryDirectory[str] | None, OSError | None]:
    """A directory of its own on the place's file system; elsewhere, and the refusal, where that cannot be; none where none can."""
    refusal = None
    for parent in (_existing(place) if place else None, None, "/dev/shm"):
        try:
            # Without a parent it is the system's temporary directory, which raises FileNotFoundError where there is none to write to.
            return tempfile.TemporaryDirectory(prefix=".nsjail-probe-", dir=parent), refusal
        except OSError as error:
            refusal = refusal or error
    return None, refusal


def _existing(path: str) -> str:
    """The directory, or the nearest of its parents that there is."""
    absolute = Path(path).absolute()
    return next(str(parent) for parent in (absolute, *absolute.parents) if parent.is_dir())


def _run(directory: str, privileged: bool, seconds: float) -> tuple[list[dict[str, Any]], str]:
    """What the child said, and how it ended, where that was not well."""
    package = str(Path(__file__).resolve().parents[2])
    arguments = [package, directory, "privileged" if privileged else "plain", os.environ.get("PATH", os.defpath)]
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _BOOTSTRAP, *arguments],
        env={}, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )
    end = ""
    try:
        out, err = child.communicate(timeout=seconds)
        if child.returncode:
            last = err.decode(errors="replace").strip().rpartition("\n")[2]
            end = last or (f"killed by {signal.Signals(-child.returncode).name}" if child.returncode < 0 else f"exit status {child.returncode}")
    except subprocess.TimeoutExpired:
        end = f"no answer within {seconds:g} s"
        _kill(child.pid)
        out = child.communicate()[0]
    finally:
        _kill(child.pid)
    return [json.loads(line) for line in out.splitlines() if line.startswith(b"{") and line.endswith(b"}")], end


def _kill(group: int) -> None:
    # The children of one that was killed die with it, but not at once.
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _checks(said: list[dict[str, Any]], end: str, steps: list[Step]) -> tuple[Check, ...]:
    came = {one["step"]: one for one in said if "step" in one}
    end = next((one["died"] for one in said if "died" in one), end)
    checks = []
    for step in steps:
        if step.name in came:
            one = came[step.name]
            checks.append(Check(step.value, one.get("errno"), one.get("detail", ""), one.get("tried", True)))
        elif end:
            # The first that it did not come to speak of is the one that ended it.
            checks.append(Check(step.value, errno.ETIMEDOUT if "no answer" in end else errno.ECANCELED, f"the probe ended: {end}"))
            end = ""
        else:
            checks.append(Check(step.value, None, "", tried=False))
    return tuple(checks)


def summary(checks: tuple[Check, ...]) -> str:
    """What came of it, in the one line of pytest's header."""
    first = failed(checks)
    if first is not None:
        name = first.step.split(" (")[0].removeprefix("a ").removeprefix("an ").removeprefix("the ")
        number = errno.errorcode.get(first.errno or 0, str(first.errno))
        return f"nsjail: unavailable: the {name} was refused ({number}); 'pytest --nsjail-doctor' says what to do"
    came = {check.step: check for check in checks}
    rootless = Step.USER.value in came
    groups = [came[step.value] for step in (Step.MEMORY, Step.PROCESSES) if came[step.value].ok]
    version = int(groups[0].detail.removeprefix("version ")) if groups else None
    return _line(rootless=rootless, version=version, many=not rootless or came[Step.IDS.value].ok, release=os.uname().release)


def quick(known: Facts | None = None) -> str:
    """The same line from facts alone, in a millisecond: nothing was tried, so that it says of a jail only what is in its way."""
    known = known or facts()
    obstacle = _obstacle(known)
    if obstacle:
        return f"nsjail: unlikely to work: {obstacle}; 'pytest --nsjail-doctor' says what to do"
    many = known.privileged or (known.newuidmap and known.subordinate and known.gains)
    return _line(rootless=not known.privileged, version=known.cgroup, many=many, release=known.release, overlay=known.overlay)


def _obstacle(known: Facts) -> str:
    """What makes jails impossible, as far as facts can tell."""
    if known.kernel < (5, 12):
        return f"Linux {known.release} is older than 5.12"
    if zero := [kind for kind, limit in known.limits if limit == 0]:
        return f"user.max_{zero[0]}_namespaces is 0"
    if known.chroot:
        return "this is a chroot"
    if known.privileged:
        return ""
    if known.userns_clone == 0:
        return "kernel.unprivileged_userns_clone is 0"
    if known.apparmor_restricts and not known.label.startswith("pytest-nsjail"):
        return "kernel.apparmor_restrict_unprivileged_userns is 1"
    if known.container == "docker" and known.filtered:
        return "a container's seccomp filter"
    if known.masked and known.container:
        return f"{known.masked[0]} is covered"
    return ""


def _line(*, rootless: bool, version: int | None, many: bool, release: str, overlay: bool = True) -> str:
    held = f"cgroup v{version}" if version else "limits by rlimits"
    kernel = ".".join(release.split("-")[0].split(".")[:2])
    words = [f"nsjail: {'rootless' if rootless else 'root'}", "" if many else "one user id", held, "overlay" if overlay else "", f"Linux {kernel}"]
    return ", ".join(word for word in words if word)

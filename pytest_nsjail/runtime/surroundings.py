"""What of this host the tests of this process have to do with."""

from __future__ import annotations

import os
import pwd
import sys
import tempfile
from collections.abc import Iterable

from pytest_nsjail.jail.plan import Surroundings
from pytest_nsjail.kernel.mounts import mount_points
from pytest_nsjail.runtime.interpreter import imported_from, prefixes

_SHARED, _OWN = 0o1777, 0o755


def surroundings(*, project: str, writable: Iterable[str], network: str) -> Surroundings:
    """Look at this process and its host.

    :param network: ``host``: the files that name servers are found by stay in sight as well.
    """
    project = os.path.realpath(project)
    hidden = {"/tmp": _SHARED, "/var/tmp": _SHARED, tempfile.gettempdir(): _SHARED, "/run": _OWN}
    hidden.update(dict.fromkeys((os.path.expanduser("~"), _home()), 0o700))
    real = {os.path.realpath(path): mode for path, mode in hidden.items() if os.path.isdir(path)}
    real.pop("/", None)
    needed = {*prefixes(), *imported_from(), os.path.dirname(os.path.realpath(sys.executable)), os.path.dirname(sys.executable)}
    if network == "host":
        needed.add("/etc/resolv.conf")
    found = {os.path.realpath(path) for path in needed if os.path.exists(path)}
    kept = tuple(sorted({os.path.realpath(path) for path in writable}))
    return Surroundings(
        # What a test is given to write to is not hidden from it, nor is the project.
        tuple(sorted((path, mode) for path, mode in real.items() if path not in (project, *kept))),
        tuple(sorted(found - set(real))), kept, project, tuple(path for path in mount_points() if path.startswith(f"{project}/")), _terminal(),
    )


def _terminal() -> str:
    """The device behind /dev/tty, where it is a pseudo-terminal and pytest in its foreground; else empty."""
    # proc_pid_stat(5): tty_nr. Documentation/admin-guide/devices.txt: 136 to 143 are the slaves of /dev/ptmx.
    with open("/proc/self/stat", "rb") as stat:
        device = int(stat.read().rpartition(b")")[2].split()[4])
    if not 136 <= os.major(device) <= 143:
        return ""
    slave = f"/dev/pts/{os.minor(device) + 256 * (os.major(device) - 136)}"
    try:
        fd = os.open(slave, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        # In a container there may be another of the same number: this call is refused for any but this session's own. In the background
        # pytest would be stopped by who reads from it, and its tests, in other sessions, would not.
        return slave if os.tcgetpgrp(fd) == os.getpgrp() else ""
    except OSError:
        return ""
    finally:
        os.close(fd)


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a user without an entry, as containers have them
        return "/"

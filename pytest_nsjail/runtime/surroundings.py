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
        tuple(sorted(found - set(real))), kept, project, tuple(path for path in mount_points() if path.startswith(f"{project}/")),
    )


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a user without an entry, as containers have them
        return "/"

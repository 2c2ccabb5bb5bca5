"""What of this host the tests of this process have to do with."""

from __future__ import annotations

import os
import pwd
import sys
import tempfile
from collections.abc import Iterable

from pytest_nsjail.jail.plan import Surroundings

_SHARED, _OWN = 0o1777, 0o755


def surroundings(*, project: str, writable: Iterable[str], network: str) -> Surroundings:
    """Look at this process and its host.

    The interpreter needs its own files, the directories of ``sys.path``, and wherever the modules that are imported by now came from: not each
    editable package is on the path.

    :param network: ``host``: the files that name servers are found by stay in sight as well.
    """
    project = os.path.realpath(project)
    hidden = {"/tmp": _SHARED, "/var/tmp": _SHARED, tempfile.gettempdir(): _SHARED, "/run": _OWN}
    hidden.update(dict.fromkeys((os.path.expanduser("~"), _home()), 0o700))
    real = {os.path.realpath(path): mode for path, mode in hidden.items() if os.path.isdir(path)}
    real.pop("/", None)
    needed = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable)), os.path.dirname(sys.executable)}
    needed.update(path for path in sys.path if path)
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            needed.add(os.path.dirname(file))
    if network == "host":
        needed.add("/etc/resolv.conf")
    found = {os.path.realpath(path) for path in needed if os.path.exists(path)}
    kept = tuple(sorted({os.path.realpath(path) for path in writable}))
    return Surroundings(
        # What a test is given to write to is not hidden from it, nor is the project.
        tuple(sorted((path, mode) for path, mode in real.items() if path not in (project, *kept))),
        tuple(sorted(found - set(real))), kept, project,
    )


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a user without an entry, as containers have them
        return "/"

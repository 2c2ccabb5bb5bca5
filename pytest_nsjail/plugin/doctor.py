"""``pytest --nsjail-doctor``: what this host can do and, for what it cannot, the step, the kernel's answer and the way out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def doctor(write: Callable[[str], object], store: str | None = None) -> int:
    """Try every step of making a jail, and write what came of it.

    :param write: takes a line without its end.
    :param store: the store's directory, which need not exist; None for where it is by default.
    :return: an exit status: 0 where jails can be made, 1 otherwise.
    """
    if not sys.platform.startswith("linux"):
        write(f"No jail can be made here: jails are made of Linux namespaces, and this is {sys.platform}. Run the tests on Linux, in WSL 2 or in a container.")
        return 1
    from pytest_nsjail.image.location import store_directory
    from pytest_nsjail.kernel.check import failed
    from pytest_nsjail.kernel.facts import facts
    from pytest_nsjail.kernel.probe import probe
    from pytest_nsjail.plugin.checkup import report

    store = store or store_directory(None, os.environ)
    checks = probe(store)
    for line in report(checks, facts(), store):
        write(line)
    return 1 if failed(checks) else 0

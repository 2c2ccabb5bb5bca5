"""From a declaration to what an init is told: the program, with everything about it looked up."""

from __future__ import annotations

import secrets

from pytest_nsjail.jail.bounds import Bounds
from pytest_nsjail.jail.command import Command
from pytest_nsjail.kernel.procfs import FIRST
from pytest_nsjail.network.observed import NOTIFY
from pytest_nsjail.runtime.identity import Identity
from pytest_nsjail.runtime.settle import programs
from pytest_nsjail.spec.jail import JailSpec
from pytest_nsjail.spec.ready import notified

# Between SIGTERM and SIGKILL, in seconds.
GRACE = 1.0


def command(spec: JailSpec, identity: Identity, bounds: Bounds, *, echoed: bool) -> Command:
    """A declaration's program, to be sent to the init.

    :param echoed: whether what it writes is repeated where pytest is read.
    """
    notify = ""
    env = spec.environment()
    if spec.activate:
        # sd_listen_fds(3); the program is process 2.
        env |= {"LISTEN_PID": str(FIRST), "LISTEN_FDS": str(len(spec.activate)), "LISTEN_FDNAMES": ":".join(map(str, spec.activate))}
    if notified(spec.ready):
        # No file, which would be one of the program's; in the host's own network names are everybody's.
        notify = f"{NOTIFY}{f'-{secrets.token_hex(8)}' if spec.network == 'host' else ''}"
        env |= {"NOTIFY_SOCKET": f"@{notify}"}
    return Command(
        argv=spec.command(),
        programs=programs(spec.command()[0], env),
        env=env,
        workdir=spec.directory(),
        uid=identity.uid,
        gid=identity.gid,
        groups=identity.groups,
        idmap=identity.idmap,
        rlimits=bounds.rlimits,
        watch=bounds.watch,
        timeout=spec.timeout,
        grace=GRACE,
        stdin=spec.stdin is not None,
        activate=spec.activate,
        label=spec.label() if echoed else "",
        notify=notify,
        observe=spec.observe,
    )

"""Hosts that refuse something, made for real: a few namespaces around a program, in which root may forbid what it likes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_nsjail.kernel.check import Check

_PROJECT = Path(__file__).parents[2]
_FILTER = str(Path(__file__).with_name("filter.py"))

# Uid 1000 without a capability, and root of a user namespace: both can be had as root and as a plain user.
_PLAIN = ("-U", "--map-user=1000", "--map-group=1000", "--keep-caps", "-m")
_ROOT = ("-U", "-r", "-m")

# Roots to change to: one that is a mount, and one that is a mere directory with the host's in it.
_ROOTS = {
    "mount": "mkdir -p {0}/root/root && mount --rbind / {0}/root/root",
    "directory": """mkdir -p {0}/root && mount -t tmpfs none {0}/root && mkdir {0}/root/root && cd / && for name in *; do
        if [ -L $name ]; then cp -P $name {0}/root/root/
        elif [ -d $name ]; then mkdir {0}/root/root/$name; mount --rbind $name {0}/root/root/$name; fi; done""",
}
_PROBE = """
import json, sys
from pytest_nsjail.kernel.facts import facts
from pytest_nsjail.kernel.probe import probe, quick, summary
checks = probe(sys.argv[1])
print(json.dumps({"checks": checks, "summary": summary(checks), "quick": quick(), "facts": facts()._asdict()}))
"""
_JAIL = """
import sys
from pytest_nsjail.errors import NsjailError
from pytest_nsjail.runtime.flow import Runtime
try:
    with Runtime(sys.argv[1]) as runtime:
        print(runtime.run(["/bin/true"]))
except NsjailError as error:
    print(type(error).__name__, error)
"""


class Host:
    """Some host, as seen by a program on it.

    :param command: what stands before a program there.
    """

    def __init__(self, command: Sequence[str], place: Path, environ: dict[str, str]) -> None:
        self._command, self._place, self._environ = command, place, environ

    def python(self, code: str, *arguments: str) -> str:
        """What a program printed there."""
        return self.execute(sys.executable, "-c", code, *arguments).stdout

    def execute(self, *argv: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program there, to its end."""
        path = os.pathsep.join([str(_PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **self._environ}
        ran = subprocess.run([*self._command, *argv], capture_output=True, text=True, env=environ, timeout=60, cwd="/", stdin=subprocess.DEVNULL)
        assert ran.returncode == status, ran.stdout + ran.stderr
        return ran

    def probe(self) -> tuple[dict[str, Check], dict[str, Any]]:
        """The checks by their steps, and what else is known."""
        said = json.loads(self.python(_PROBE, str(self._place)))
        return {check[0]: Check(*check) for check in said["checks"]}, said

    def jail(self) -> str:
        """What an attempt at a jail says."""
        return self.python(_JAIL, str(self._place / "store"))


class Hosts:
    """Makes them; see :func:`hosts`."""

    # Docker's default profile, without CAP_SYS_ADMIN and with it.
    DOCKER = "unshare,mount,umount2,setns,pivot_root,open_tree,move_mount,mount_setattr:EPERM"
    DOCKER_ADMIN = "pivot_root:EPERM"

    def __init__(self, place: Path) -> None:
        self._place = place

    def here(self, **environ: str) -> Host:
        """The one that the test runs on, as it is."""
        return Host((), self._place, environ)

    def plain(self, setup: str = "true", *, filtered: str = "", chroot: str = "", pids: bool = False, **environ: str) -> Host:
        """A plain user's.

        :param setup: what is done to it by the shell, before, by its root.
        :param filtered: system calls and the filter's answer: ``unshare,mount:EPERM``.
        :param chroot: a key of ``_ROOTS``: what kind of chroot the program is in.
        :param pids: whether it has a pid namespace, and its /proc.
        """
        drop = (self._tool("setpriv"), "--ambient-caps=-all", "--inh-caps=-all")
        return self._make((*_PLAIN, *(("-p", "-f", "--mount-proc") if pids else ())), setup, drop, filtered, chroot, environ)

    def root(self, setup: str = "true", *, filtered: str = "", chroot: str = "", **environ: str) -> Host:
        """Root's, of a user namespace; the same parameters."""
        return self._make(_ROOT, setup, (), filtered, chroot, environ)

    def _make(self, kind: tuple[str, ...], setup: str, drop: tuple[str, ...], filtered: str, chroot: str, environ: dict[str, str]) -> Host:
        unshare, shell = self._tool("unshare"), self._tool("sh")
        if subprocess.run([unshare, *kind, "true"], capture_output=True).returncode:
            pytest.skip(f"no refusing host can be made here: 'unshare {' '.join(kind)}' is refused itself")
        if chroot:
            setup += f" && {_ROOTS[chroot].format(self._place)}"
        root = (self._tool("chroot"), str(self._place / "root/root")) if chroot else ()
        # The shell's programs are found by the usual PATH; the test's are not, where it says so.
        script = f'theirs=$PATH; PATH={os.environ.get("PATH", os.defpath)}; {setup} || exit 99; PATH=$theirs; exec "$@"'
        behind = (sys.executable, _FILTER, filtered) if filtered else ()
        return Host((unshare, *kind, shell, "-c", script, "sh", *root, *drop, *behind), self._place, environ)

    def _tool(self, name: str) -> str:
        # A plain user's PATH has no sbin on Debian.
        return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") or pytest.fail(f"no {name}: it is in util-linux and coreutils")


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    """Hosts that refuse what the test says."""
    return Hosts(tmp_path)

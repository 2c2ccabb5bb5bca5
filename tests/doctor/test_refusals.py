"""Refusals of the real kernel, on hosts made for it: what the probe says of them, and what a jail does."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nsjail.kernel import idmap
from pytest_nsjail.kernel.check import Check, Step

if TYPE_CHECKING:
    from tests.doctor.conftest import Hosts

# What no step needs.
_FREE = {Step.MEMORY, Step.PROCESSES, Step.IDS}


def refused(checks: dict[str, Check]) -> dict[Step, int]:
    """The needed steps that were refused, and how."""
    return {Step(step): check.errno for step, check in checks.items() if check.errno and check.needed}


def untried(checks: dict[str, Check]) -> set[Step]:
    return {Step(step) for step, check in checks.items() if not check.tried}


@pytest.mark.parametrize("kind", ["here", "plain", "root"])
def test_where_nothing_is_refused_every_step_is_ok(hosts: Hosts, kind: str) -> None:
    there = getattr(hosts, kind)()
    checks, said = there.probe()
    assert refused(checks) == {}
    assert untried(checks) == set()
    rootless = kind == "plain" or (kind == "here" and os.geteuid() != 0)
    assert (Step.USER.value in checks) == rootless
    assert said["summary"].startswith("nsjail: rootless, " if rootless else "nsjail: root, ")
    assert said["summary"] == said["quick"]
    assert "exited with 0" in there.jail()


def test_no_user_namespaces(hosts: Hosts) -> None:
    there = hosts.plain("echo 0 > /proc/sys/user/max_user_namespaces")
    checks, said = there.probe()
    assert refused(checks) == {Step.USER: errno.ENOSPC}
    assert untried(checks) == set(Step) - _FREE - {Step.USER, Step.PRIVILEGES}
    assert said["summary"].startswith("nsjail: unavailable: the user namespace was refused (ENOSPC)")
    assert said["quick"].startswith("nsjail: unlikely to work: user.max_user_namespaces is 0")
    assert "sudo sysctl user.max_user_namespaces=15000" in there.jail()


def test_no_user_namespace_for_the_payload_of_root(hosts: Hosts) -> None:
    there = hosts.root("echo 0 > /proc/sys/user/max_user_namespaces")
    checks, said = there.probe()
    assert refused(checks) == {Step.PAYLOAD: errno.ENOSPC}
    assert said["summary"].startswith("nsjail: unavailable: the payload's user namespace was refused (ENOSPC)")
    assert "payload" in there.jail()
    assert "sudo sysctl user.max_user_namespaces=15000" in there.jail()


def test_no_network_namespaces(hosts: Hosts) -> None:
    there = hosts.root("echo 0 > /proc/sys/user/max_net_namespaces")
    checks, _ = there.probe()
    assert refused(checks) == {Step.NETWORK: errno.ENOSPC}
    assert untried(checks) == {Step.LOOPBACK}
    assert "sudo sysctl user.max_net_namespaces=15000" in there.jail()


def test_dockers_filter(hosts: Hosts) -> None:
    there = hosts.plain(filtered=hosts.DOCKER)
    checks, said = there.probe()
    assert refused(checks) == {Step.USER: errno.EPERM}
    assert said["facts"]["filtered"]
    assert said["summary"].startswith("nsjail: unavailable: the user namespace was refused (EPERM)")
    told = there.jail()
    assert told.startswith("SetupError cannot make the jail: a user namespace (unshare(CLONE_NEWUSER)) (Operation not permitted, errno 1).")
    assert "seccomp" in told


def test_dockers_filter_for_root_with_sys_admin_has_no_pivot_root(hosts: Hosts) -> None:
    there = hosts.root(filtered=hosts.DOCKER_ADMIN)
    checks, _ = there.probe()
    assert refused(checks) == {Step.PIVOT: errno.EPERM}
    assert untried(checks) == set()
    told = there.jail()
    assert told.startswith("SetupError cannot make the jail: the change of root (pivot_root)")
    assert "seccomp" in told


def test_a_filter_that_knows_no_new_calls(hosts: Hosts) -> None:
    """Podman's default answers what it does not know by ENOSYS; the kernel is not too old for that."""
    checks, said = hosts.root(filtered="open_tree,mount_setattr:ENOSYS").probe()
    assert refused(checks) == {Step.BIND: errno.ENOSYS}
    assert said["facts"]["filtered"]


def test_a_filter_that_kills(hosts: Hosts) -> None:
    checks, said = hosts.root(filtered="pivot_root:KILL").probe()
    assert refused(checks) == {Step.PIVOT: errno.ECANCELED}
    assert checks[Step.PIVOT.value].detail == "the probe ended: killed by SIGSYS"
    assert said["summary"].startswith("nsjail: unavailable: the change of root was refused (ECANCELED)")


@pytest.mark.parametrize(("kind", "words"), [("directory", "This is a chroot"), ("mount", "this must be a chroot")])
def test_a_chroot(hosts: Hosts, kind: str, words: str) -> None:
    there = hosts.plain(chroot=kind)
    checks, said = there.probe()
    assert refused(checks) == {Step.USER: errno.EPERM}
    # A root that is a mount looks like a namespace's own to a plain user.
    assert said["facts"]["chroot"] == (kind == "directory")
    assert words in there.jail()


def test_a_chroot_of_root(hosts: Hosts) -> None:
    there = hosts.root(chroot="directory")
    checks, said = there.probe()
    assert refused(checks) == {Step.PRIVATE: errno.EINVAL, Step.PAYLOAD: errno.EPERM}
    assert "This is a chroot" in there.jail()
    assert said["quick"].startswith("nsjail: unlikely to work: this is a chroot")


def test_a_masked_proc(hosts: Hosts) -> None:
    there = hosts.plain("mount -t tmpfs none /proc/fs", pids=True)
    checks, said = there.probe()
    assert refused(checks) == {Step.PROC: errno.EPERM}
    assert untried(checks) == {Step.PAYLOAD_MAP, Step.BECOME}
    assert said["facts"]["masked"] == ["/proc/fs"]
    told = there.jail()
    assert told.startswith("SetupError cannot make the jail: a fresh /proc")
    assert "/proc/fs" in told or "--security-opt" in told


def test_no_newuidmap_means_one_user(hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    there = hosts.plain(PATH=str(tmp_path / "bin"))
    checks, said = there.probe()
    assert refused(checks) == {}
    assert checks[Step.IDS.value][1:3] == (errno.ENOENT, "no newuidmap and newgidmap")
    assert "one user id" in said["summary"]
    assert not said["facts"]["newuidmap"]


def test_a_newuidmap_that_may_not(hosts: Hosts, tmp_path: Path) -> None:
    if not shutil.which("newuidmap"):
        pytest.skip("newuidmap(1) is not installed (Debian's package uidmap)")
    (tmp_path / "range").write_text("1000:100000:65536\n")
    # In a user namespace where its owner has no number its bit means nothing.
    there = hosts.plain(" && ".join(f"mount --bind {tmp_path}/range /etc/{file}" for file in ("subuid", "subgid")))
    checks, said = there.probe()
    assert refused(checks) == {Step.IDS: errno.EPERM}
    assert "newuidmap" in checks[Step.IDS.value].detail
    assert said["summary"].startswith("nsjail: unavailable: the several ids")
    told = there.jail()
    assert told.startswith("SetupError cannot make the jail: map the ids of the user namespace: newuidmap")
    assert "chmod u+s /usr/bin/newuidmap" in told


def test_a_newuidmap_that_gains_nothing_is_not_asked(hosts: Hosts, tmp_path: Path) -> None:
    """Under no_new_privs, as in bwrap, a set-user-ID program is none: one user, then, and no error."""
    if not shutil.which("newuidmap"):
        pytest.skip("newuidmap(1) is not installed (Debian's package uidmap)")
    (tmp_path / "range").write_text("1000:100000:65536\n")
    # Any filter sets it.
    ranges = " && ".join(f"mount --bind {tmp_path}/range /etc/{file}" for file in ("subuid", "subgid"))
    there = hosts.plain(ranges, filtered="swapoff:EPERM")
    checks, said = there.probe()
    assert refused(checks) == {}
    assert checks[Step.IDS.value][1:3] == (errno.ENOENT, "newuidmap gains no rights under no_new_privs")
    assert "one user id" in said["summary"]
    assert "exited with 0" in there.jail()


def test_a_store_that_cannot_be_written(hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    there = hosts.root(f"mount -t tmpfs -o ro none {tmp_path}/full")
    code = "import sys; from pytest_nsjail.plugin.doctor import doctor; print(doctor(print, sys.argv[1]))"
    told = there.python(code, f"{tmp_path}/full/store")
    assert f"refused    an overlay over the store: Read-only file system (EROFS): no directory can be made at {tmp_path}/full/store" in told
    assert "--nsjail-store=DIR" in told
    assert told.endswith("The way out is above.\n1\n")


def test_nowhere_to_write_at_all(hosts: Hosts) -> None:
    code = "from pytest_nsjail.plugin.doctor import doctor; print(doctor(print, '/nowhere/store'))"
    closed = "mount -o remount,bind,ro / && for d in /tmp /dev/shm /var/tmp; do mount --bind $d $d; mount -o remount,bind,ro $d; done"
    told = hosts.root(closed, TMPDIR="/nowhere").python(code)
    assert "not tried  a mount namespace" in told
    assert "No jail can be made here: an overlay over the store: Read-only file system (EROFS)" in told


def test_newuidmap_of_this_user(hosts: Hosts) -> None:
    """Whatever this user has: a range that is used, or none; as root there is nothing to ask."""
    checks, _ = hosts.here().probe()
    if os.geteuid() == 0:
        assert Step.IDS.value not in checks
    else:
        assert checks[Step.IDS.value].errno == (None if len(idmap.rootless().uids) > 1 else errno.ENOENT)


@pytest.mark.parametrize(("kind", "filtered", "status"), [("plain", "", 0), ("root", "", 0), ("plain", "DOCKER", 1), ("root", "DOCKER_ADMIN", 1)])
def test_the_doctor_by_pytests_option(hosts: Hosts, tmp_path: Path, kind: str, filtered: str, status: int) -> None:
    rules = getattr(hosts, filtered) if filtered else ""
    there = getattr(hosts, kind)(filtered=rules, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", HOME=str(tmp_path))
    options = ["-p", "pytest_nsjail.plugin", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "--nsjail-doctor"]
    ran = there.execute(sys.executable, "-m", "pytest", *options, status=status)
    assert ("Jails can be made here" in ran.stdout) == (status == 0)
    assert ("No jail can be made here" in ran.stdout and "-> " in ran.stdout and "seccomp" in ran.stdout) == (status == 1)
    assert ran.stderr == ""

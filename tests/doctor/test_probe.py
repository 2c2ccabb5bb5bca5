"""The probe itself: it leaves nothing, it ends in time, and it says what it did not come to."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nsjail.kernel.check import Check, Step, failed
from pytest_nsjail.kernel.facts import Facts, facts
from pytest_nsjail.kernel.hierarchy import own_hierarchy
from pytest_nsjail.kernel.probe import probe, quick, summary

if TYPE_CHECKING:
    from tests.doctor.conftest import Hosts


def processes(place: Path) -> list[str]:
    """Who has the place among their arguments: the probe's children have."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str(place).encode() in (entry / "cmdline").read_bytes() and "zombie" not in (entry / "status").read_text():
                    found.append(entry.name)
            except OSError:
                continue
    return found


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    descriptors = os.listdir("/proc/self/fd")
    namespaces = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    probe(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert processes(tmp_path) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert os.listdir("/proc/self/fd") == descriptors
    assert {name: os.readlink(f"/proc/self/ns/{name}") for name in namespaces} == namespaces
    hierarchy = own_hierarchy()
    groups = [group for _, directory in hierarchy.directories for group in os.listdir(directory)] if hierarchy else []
    # Other probes may be at it; none that has ended has left its group.
    assert [group for group in groups if group.startswith("pytest-nsjail-probe-") and not os.path.exists(f"/proc/{group.rpartition('-')[2]}")] == []


def test_it_has_a_deadline(tmp_path: Path) -> None:
    checks = probe(str(tmp_path), seconds=0.0001)
    assert (checks[0].errno, checks[0].tried) == (errno.ETIMEDOUT, True)
    assert checks[0].detail == "the probe ended: no answer within 0.0001 s"
    assert all(not check.tried for check in checks[1:])
    assert list(tmp_path.iterdir()) == []
    assert processes(tmp_path) == []


def test_it_dies_with_pytest(tmp_path: Path) -> None:
    code = f"from pytest_nsjail.kernel.probe import probe\nwhile True: probe({str(tmp_path)!r}); print('.', flush=True)"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environ) as pytest:
        assert pytest.stdout
        pytest.stdout.readline()
        time.sleep(0.03)
        pytest.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes(tmp_path) == []


def test_a_store_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    assert failed(probe(str(tmp_path / "some/where"))) is None
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_pytests_environment_gets_into_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.setenv("LD_PRELOAD", "/nowhere.so")
    assert failed(probe(str(tmp_path))) is None


def _came(**errnos: int) -> tuple[Check, ...]:
    return tuple(Check(step.value, errnos.get(step.name), "version 2" if step in (Step.MEMORY, Step.PROCESSES) else "") for step in Step)


def test_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "here", "6.18.44-generic", "#1", "x86_64")))
    root = tuple(check for check in _came() if check.step not in (Step.USER.value, Step.MAP.value, Step.IDS.value))
    assert summary(root) == "nsjail: root, cgroup v2, overlay, Linux 6.18"
    assert summary(_came()) == "nsjail: rootless, cgroup v2, overlay, Linux 6.18"
    limited = _came(MEMORY=errno.EACCES, PROCESSES=errno.EACCES, IDS=errno.ENOENT, REPLACED=errno.EIO)
    assert summary(limited) == "nsjail: rootless, one user id, limits by rlimits, overlay, Linux 6.18"
    assert summary(_came(USER=errno.EPERM)) == "nsjail: unavailable: the user namespace was refused (EPERM); 'pytest --nsjail-doctor' says what to do"


@pytest.mark.parametrize(("known", "line"), [
    (Facts(cgroup=2), "nsjail: rootless, cgroup v2, overlay, Linux 6.18"),
    (Facts(privileged=True, newuidmap=False, cgroup=1), "nsjail: root, cgroup v1, overlay, Linux 6.18"),
    (Facts(subordinate=False, overlay=False), "nsjail: rootless, one user id, limits by rlimits, Linux 6.18"),
    (Facts(release="5.10.0"), "nsjail: unlikely to work: Linux 5.10.0 is older than 5.12"),
    (Facts(userns_clone=0), "nsjail: unlikely to work: kernel.unprivileged_userns_clone is 0"),
    (Facts(userns_clone=0, privileged=True), "nsjail: root, limits by rlimits, overlay, Linux 6.18"),
    (Facts(apparmor_restricts=True), "nsjail: unlikely to work: kernel.apparmor_restrict_unprivileged_userns is 1"),
    (Facts(apparmor_restricts=True, label="pytest-nsjail (unconfined)"), "nsjail: rootless, limits by rlimits, overlay, Linux 6.18"),
    (Facts(limits=(("user", 1), ("net", 0))), "nsjail: unlikely to work: user.max_net_namespaces is 0"),
    (Facts(chroot=True), "nsjail: unlikely to work: this is a chroot"),
    (Facts(container="docker", filtered=True), "nsjail: unlikely to work: a container's seccomp filter"),
    (Facts(container="podman", filtered=True, masked=("/proc/acpi",)), "nsjail: unlikely to work: /proc/acpi is covered"),
])
def test_the_header_from_facts(known: Facts, line: str) -> None:
    assert quick(known).split(";")[0] == line


def test_the_header_costs_next_to_nothing() -> None:
    took = []
    for _ in range(20):
        began = time.perf_counter()
        quick()
        took.append(time.perf_counter() - began)
    assert min(took) < 0.005


def test_the_facts_of_this_host() -> None:
    known = facts()
    assert known.kernel >= (5, 12)
    assert known.uid == os.geteuid()
    assert dict(known.limits)["user"] > 0
    assert known.python == os.path.realpath(sys.executable)


def test_marks_of_a_ci_and_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert (facts().ci, facts().container) == ("gitlab", "kubernetes")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert facts().ci == "github"


def test_facts_where_there_is_no_proc(hosts: Hosts) -> None:
    """A chroot without /proc is no error: what cannot be read is not known."""
    said = hosts.root("mount -t tmpfs none /proc").python("from pytest_nsjail.kernel.facts import facts; print(facts().limits, facts().cgroup)")
    assert said == "() None\n"

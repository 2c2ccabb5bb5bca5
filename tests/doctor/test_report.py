"""What the doctor writes, from values."""

from __future__ import annotations

import errno
import platform
import sys

import pytest

from pytest_nsjail.kernel.check import Check, Step
from pytest_nsjail.kernel.facts import Facts
from pytest_nsjail.plugin.checkup import report
from pytest_nsjail.plugin.doctor import doctor


def checks(*without: Step, **errnos: int) -> tuple[Check, ...]:
    """Every step but some, done but for those that are refused, and what needs those not tried."""
    done = set(without)
    found = []
    for step in (step for step in Step if step not in without):
        if not done.issuperset(set(step.needs) - ({Step.USER} if step is Step.IDS else set())):
            found.append(Check(step.value, None, "", tried=False))
        elif step.name in errnos:
            found.append(Check(step.value, errnos[step.name]))
        else:
            done.add(step)
            found.append(Check(step.value, None, "version 2" if step in (Step.MEMORY, Step.PROCESSES) else ""))
    return tuple(found)


def test_a_host_that_can() -> None:
    lines = list(report(checks(), Facts(user="me", release="6.18.1"), "/proc"))
    assert lines[0] == f"pytest-nsjail on Linux 6.18.1 ({platform.machine()}), as me"
    assert [line for line in lines if line.startswith("  ok")] == [f"  ok         {step.value}" for step in list(Step)[3:]]
    assert "  memory     held by a control group (version 2)" in lines
    assert "  users      root, who is me outside, and a range of others (newuidmap)" in lines
    assert "  store      /proc (proc): can lie under jails" in lines
    assert lines[-1].startswith("Jails can be made here (rootless, cgroup v2, overlay, Linux ")
    assert not any("->" in line for line in lines)


def test_a_refused_step_has_its_way_out_below_it_and_once() -> None:
    known = Facts(apparmor_restricts=True, uid=1000)
    lines = list(report(checks(PRIVATE=errno.EACCES, NETWORK=errno.EPERM), known, "/"))
    where = lines.index("  refused    private mounts: Permission denied (EACCES)")
    assert lines[where + 1].startswith("             -> Ubuntu's AppArmor")
    assert sum("Ubuntu's AppArmor" in line for line in lines) == 1
    assert "  not tried  a private tmpfs" in lines
    assert lines[-1] == "No jail can be made here: private mounts: Permission denied (EACCES). The way out is above."
    assert all(len(line) <= 110 or " " not in line.strip() or "=" in line for line in lines)


def test_what_holds_the_limits_where_no_control_group_does() -> None:
    refused = checks(MEMORY=errno.EACCES, PROCESSES=errno.EACCES, IDS=errno.ENOENT)
    text = "\n".join(report(refused, Facts(newuidmap=False, user="me"), "/"))
    assert "memory     looked after by the jail's init" in text
    assert "processes  held by an rlimit" in text
    assert "users      one, who is me outside\n             -> For jails with several users, install newuidmap" in text
    assert "systemd-run --user --scope -p Delegate=yes pytest" in text
    assert "Jails can be made here (rootless, one user id, limits by rlimits" in text


def test_root_without_control_groups_is_told_what_it_cannot_have() -> None:
    root = checks(Step.USER, Step.MAP, Step.IDS, PROCESSES=errno.ENOENT)
    text = "\n".join(report(root, Facts(privileged=True, uid=0), "/"))
    assert "for root by nothing here, so that such a limit is an error" in text
    assert "users      any\n" in text


def test_a_newuidmap_that_refuses_is_no_jail() -> None:
    text = "\n".join(report(checks(IDS=errno.EPERM), Facts(), "/"))
    assert "users      none: Operation not permitted (EPERM)\n             -> newuidmap has no right to do it" in text
    assert text.endswith("No jail can be made here: several ids (newuidmap): Operation not permitted (EPERM). The way out is above.")


@pytest.mark.parametrize(("known", "words"), [
    (Facts(container="docker"), ", in a Docker container"),
    (Facts(container="lxc", system="wsl2"), ", in a container (lxc), in WSL 2"),
    (Facts(chroot=True), ", in a chroot"),
])
def test_the_first_line_says_where_this_is(known: Facts, words: str) -> None:
    assert next(report(checks(), known, "/")).endswith(words)


def test_another_system_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    lines: list[str] = []
    assert doctor(lines.append) == 1
    assert lines[0].startswith("No jail can be made here: jails are made of Linux namespaces, and this is darwin.")

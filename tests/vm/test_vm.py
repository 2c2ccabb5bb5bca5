"""What the machine's phases came to; see init.sh."""

from __future__ import annotations

import pytest

SUITES = ("root", "delegated", "plain", "top")


@pytest.mark.parametrize("phase", SUITES)
def test_the_tests_of_jails_pass(machine, phase):
    status, output = machine.phases[phase]
    assert status == 0, output


@pytest.mark.parametrize(("phase", "groups"), [("root", "held by a control group (version 2)"), ("delegated", "held by a control group (version 2)"),
                                              ("plain", "looked after by the jail's init")])
def test_the_doctor_names_what_holds_limits(machine, phase, groups):
    status, output = machine.phases[f"doctor-{phase}"]
    assert status == 0, output
    assert groups in output
    assert ("cgroup v2" in output) == (phase != "plain")


def test_nothing_is_left(machine):
    assert [line for line in machine.console.splitlines() if line.startswith("@@ left")] == []

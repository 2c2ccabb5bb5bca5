"""The project's own hooks, in conftest.py: one changes every jail, one sees every result."""

from __future__ import annotations

from pytest_nsjail import Bind


def test_the_spec_hook_adds_a_mount_to_every_jail(nsjail_run, busybox, project):
    result = nsjail_run(["/bin/busybox", "cat", "/etc/motd"], image=busybox)
    assert result.stdout == (project / "motd").read_text()


def test_the_spec_hook_reaches_a_detached_jail_too(nsjail_start, busybox, project):
    jail = nsjail_start(["/bin/busybox", "sleep", "60"], image=busybox)
    assert jail.run(["/bin/busybox", "cat", "/etc/motd"]).stdout == (project / "motd").read_text()


def test_the_finished_hook_sees_every_result(nsjail_run, busybox, project, finished):
    result = nsjail_run(["/bin/busybox", "echo", "seen"], image=busybox)
    spec, seen = finished[-1]
    assert seen is result
    assert spec.argv == ("/bin/busybox", "echo", "seen")
    assert Bind(project / "motd", "/etc/motd") in spec.mounts

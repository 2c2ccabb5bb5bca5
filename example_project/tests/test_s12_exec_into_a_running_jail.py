"""S12: one more program in a running jail finds what the first one found."""

from __future__ import annotations

from pytest_nsjail import Exited, Limits

# Whatever tells one jail from another: its namespaces, its environment, its limits, its name.
DESCRIBE = "for kind in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$kind; done; echo $PORT; ulimit -n; hostname"


def start(nsjail_start, busybox):
    first = f"({DESCRIBE}) > /tmp/writing; mv /tmp/writing /tmp/first; exec sleep 60"
    return nsjail_start(["/bin/busybox", "sh", "-c", first], image=busybox, env={"PORT": "3000"}, limits=Limits(open_files=64), hostname="running")


def test_s12_the_same_namespaces_environment_and_limits(nsjail_start, busybox):
    jail = start(nsjail_start, busybox)
    first = jail.run(["/bin/busybox", "sh", "-c", "until [ -e /tmp/first ]; do sleep 0.02; done; cat /tmp/first"])
    second = jail.run(["/bin/busybox", "sh", "-c", DESCRIBE])
    assert second.status == Exited(0)
    assert second.stdout == first.stdout
    assert second.stdout.splitlines()[-3:] == ["3000", "64", "running"]


def test_s12_it_ends_and_the_first_one_goes_on(nsjail_start, busybox):
    jail = start(nsjail_start, busybox)
    assert jail.run(["/bin/busybox", "false"]).status == Exited(1)
    assert jail.run(["/bin/busybox", "true"]).ok
    assert jail.host_pid in [process.host_pid for process in jail.processes()]

"""Who a program is, and what that is worth: nothing outside, and nothing over the jail's own init."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_nsjail.errors import ResolveError, Unsupported
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.spec.dependency import Elf, File, Groups, Symlink, Users
from pytest_nsjail.spec.mount import Bind


@pytest.fixture(scope="module")
def peopled(runtime: Runtime, probe: Path) -> Image:
    return runtime.image(Elf("/bin/busybox"), Elf(str(probe), "/bin/probe"), Symlink("/bin/sh", "busybox"), Users(nodeuser=500, other=501), Groups(media=44),
                         env={"PATH": "/bin"})


def _caps(status: str) -> dict[str, int]:
    return {line[3:6]: int(line[7:], 16) for line in status.splitlines() if line.startswith("Cap")}


@pytest.mark.parametrize(("user", "uid", "gid"), [
    (None, 0, 0), (0, 0, 0), ("nodeuser", 500, 500), (500, 500, 500), ("500", 500, 500), ("nodeuser:media", 500, 44), ("500:44", 500, 44),
    ("other:nodeuser", 501, 500), ("7:8", 7, 8),
])
def test_a_user_is_who_was_named(facts, peopled, user, uid, gid):
    found = facts(image=peopled, user=user)
    assert (found["uid"], found["gid"]) == ([uid, uid], [gid, gid])
    assert "Groups:\t \n" in found["status"], "no group of pytest's comes along"


def test_a_number_without_a_name_has_its_own_group(facts, peopled):
    found = facts(image=peopled, user=1234)
    assert (found["uid"], found["gid"][0]) in (([1234, 1234], 1234), ([1234, 1234], 0))


@pytest.mark.parametrize("user", ["nobody", "nodeuser:absent", "absent:media"])
def test_a_name_that_the_root_does_not_have_is_an_error(facts, peopled, user):
    with pytest.raises(ResolveError, match=r"nobody|absent"):
        facts(image=peopled, user=user)


def test_the_images_user_is_the_default(runtime: Runtime, probe):
    image = runtime.image(Elf("/bin/busybox"), Users(nodeuser=500), user="nodeuser")
    assert runtime.run(["/bin/busybox", "id", "-u"], image=image).stdout == "500\n"
    assert runtime.run(["/bin/busybox", "id", "-u"], image=image, user=0).stdout == "0\n"


def test_a_plain_user_has_no_capability_and_gets_none(facts, peopled):
    found = facts(image=peopled, user=500)
    caps = _caps(found["status"])
    assert (caps["Eff"], caps["Prm"], caps["Inh"], caps["Amb"]) == (0, 0, 0, 0)
    assert found["no_new_privs"] == 1


def test_root_has_no_new_privileges_either(facts):
    assert facts()["no_new_privs"] == 1


def test_a_setuid_program_does_not_elevate(runtime: Runtime, box: Image, probe, tmp_path):
    elevating = tmp_path / "elevating"
    elevating.write_bytes(probe.read_bytes())
    elevating.chmod(0o4755)
    image = runtime.image(Elf("/bin/busybox"), File(str(elevating), "/bin/elevating", mode=0o4755), Users(nodeuser=500))
    assert runtime.run(["/bin/elevating", "ids"], image=image, user=500).stdout == "500 500\n"
    mounts = [Bind(elevating, "/mnt/elevating")]
    assert runtime.run(["/mnt/elevating", "ids"], image=box, user=500, mounts=mounts).stdout == "500 500\n"


def test_a_setuid_program_that_is_made_inside_does_not_elevate(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box) as jail:
        jail.run(["sh", "-c", "busybox cp /bin/probe /tmp/probe; chmod 4755 /tmp/probe"], check=True)
        result = jail.run(["/tmp/probe", "ids"], user=500)
        if result.status.__class__.__name__ == "NotStarted":
            pytest.fail(str(result.status))
        assert result.stdout == "500 500\n"


SINGLE = """
import sys, json
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.errors import Unsupported
def attempt(**options):
    try:
        return runtime.run(["/bin/busybox", "sh", "-c", "/bin/busybox id -u; /bin/busybox chown 7 /tmp"], **options).report()
    except Unsupported as error:
        return "Unsupported: " + str(error)
with Runtime(sys.argv[1]) as runtime:
    with runtime.start(["/bin/busybox", "sleep", "60"], user=500) as jail:
        try:
            entered = jail.run(["/bin/busybox", "true"], user=501).report()
        except Unsupported as error:
            entered = "Unsupported: " + str(error)
    print(json.dumps([attempt(), attempt(user=500), entered]))
"""


def test_without_subordinate_ids_there_is_one_user_and_errors_say_so(tmp_path):
    # Without newuidmap in the PATH; root needs none.
    ran = subprocess.run([sys.executable, "-c", SINGLE, tmp_path], env={"PATH": "/nonexistent"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    root, plain, entered = json.loads(ran.stdout)
    if os.geteuid() == 0:
        assert (root.count("exited with 0"), plain.count("Operation not permitted"), entered.count("exited with 0")) == (1, 1, 1)
    else:
        assert "0\n" in root
        assert "Invalid argument" in root
        assert "500\n" in plain
        assert entered.startswith("Unsupported: user='501' is uid 501")
        assert all(word in entered for word in ("one user, uid 500", "newuidmap", "/etc/subuid"))


def test_several_ids_are_there_where_the_host_gives_them(sh):
    result = sh("touch /tmp/x; chown 500:44 /tmp/x && stat -c %u:%g /tmp/x")
    has_many = os.geteuid() == 0 or os.path.exists("/usr/bin/newuidmap")
    assert (result.stdout == "500:44\n") == has_many, result.report()


def test_many_ids_and_one_differ_in_what_jail_run_may_become(runtime: Runtime, box: Image):
    with runtime.start(["sleep", "60"], image=box) as jail:
        try:
            assert jail.run(["id", "-u"], user=500).stdout == "500\n"
        except Unsupported as error:
            assert os.geteuid() != 0
            assert "newuidmap" in str(error)  # noqa: PT017


# Attempts


# What must not work, and how the kernel says no, wherever and as whoever it is tried.
REFUSED = {
    "ptrace", "read memory", "/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/root", "/proc/1/cwd", "/proc/1/exe", "/proc/1/fd", "pidfd_getfd",
    "join user", "join mnt", "join pid", "join net", "join ipc", "join uts", "join cgroup", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches",
    "/proc/sysrq-trigger", "/proc/kcore", "sethostname", "mount", "mknod", "chmod /dev/null", "chown /dev/null",
    "chmod /dev/tty", "clock", "reboot", "module", "handle",
    *(f"{when}{what}" for when in ("", "own: ") for what in (
        "umount /proc", "umount /dev", "umount /dev/null", "umount /ro", "remount /ro", "remount /dev/null", "remount /", "fresh proc",
        "cgroup2", "cgroup memory", "cgroup freezer", "devtmpfs", "debugfs",
    )),
    "own: unmap /dev/null",
}
REFUSALS = {"EPERM", "EACCES", "EROFS", "EINVAL", "ENOENT", "ENOSYS", "EBUSY"}


@pytest.mark.parametrize("user", [None, 500])
def test_nobody_in_a_jail_gets_at_its_init_its_mounts_or_the_host(runtime: Runtime, box: Image, tmp_path, user):
    result = runtime.run(["probe", "attempts"], image=box, user=user, mounts=[Bind(tmp_path, "/ro")], check=True)
    found = json.loads(result.stdout)
    assert set(found) >= REFUSED
    assert {what: found[what] for what in REFUSED if found[what] not in REFUSALS} == {}
    assert found.get("climb", "own root") == "own root"


def test_nobody_kills_the_init(sh):
    result = sh("for one in KILL STOP TERM INT HUP QUIT USR1 SEGV CHLD ALRM PIPE; do kill -$one 1; done; kill -9 -1; echo on; exit 3")
    assert (result.returncode, result.stdout) == (3, "on\n")


def test_a_storm_of_signals_is_nothing_to_the_init(sh):
    assert sh("i=0; while [ $i -lt 3000 ]; do kill -CHLD 1; i=$((i+1)); done; exit 3").returncode == 3


def test_the_processes_of_the_host_are_not_there(sh):
    assert sh(f"kill -0 {os.getpid()} 2>/dev/null && echo there; ls -d /proc/{max(os.getpid(), 1000)}").stdout == ""


def test_keys_do_not_pass_from_jail_to_jail(runtime: Runtime, box: Image):
    assert [runtime.run(["probe", "key", "keep"], image=box).stdout for _ in range(3)] == ["none\n"] * 3

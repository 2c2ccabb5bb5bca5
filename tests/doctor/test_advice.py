"""The table of environments, row by row: none of them has to be here."""

from __future__ import annotations

import errno

import pytest

from pytest_nsjail.errors import SetupError
from pytest_nsjail.jail import steps
from pytest_nsjail.kernel.advice import ROWS, advise, explained, row
from pytest_nsjail.kernel.check import Step
from pytest_nsjail.kernel.facts import Facts
from pytest_nsjail.kernel.idmap import IdMap
from pytest_nsjail.kernel.refusal import Refusal, Topic

E = errno
UBUNTU = Facts(apparmor_restricts=True, label="unconfined", python="/home/me/v/bin/python3.12")
DOCKER = Facts(container="docker", filtered=True, label="docker-default (enforce)", masked=("/proc/acpi", "/proc/kcore"))
DEFAULT_OPTIONS = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"

TABLE = [
    ("gVisor", Step.MOUNT, E.ENOSYS, Facts(system="gvisor"), ["docker run --runtime=runc"]),
    ("WSL 1", Step.USER, E.EINVAL, Facts(system="wsl1", release="4.4.0-19041-Microsoft"), ["wsl --set-version NAME 2"]),
    ("several ids", Step.IDS, E.ENOENT, Facts(newuidmap=False), ["sudo apt-get install uidmap"]),
    ("several ids", Step.IDS, E.ENOENT, Facts(newuidmap=False, subordinate=False), ["install uidmap", "sudo usermod --add-subuids 100000-165535"]),
    ("several ids", Step.IDS, E.ENOENT, Facts(subordinate=False, user="me", system="wsl2"), ["--add-subgids 100000-165535 me"]),
    ("several ids", Step.IDS, E.EPERM, Facts(), ["sudo chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap", "Or go without"]),
    ("several ids", Step.IDS, E.ENOENT, Facts(gains=False), ["without no_new_privs"]),
    ("control groups", Step.MEMORY, E.EACCES, Facts(), ["systemd-run --user --scope -p Delegate=yes pytest"]),
    ("control groups", Step.PROCESSES, E.EROFS, DOCKER, ["--cgroupns=private", "-v /sys/fs/cgroup:/sys/fs/cgroup:rw"]),
    ("control groups", Step.PROCESSES, E.EACCES, DOCKER._replace(read_only=True), ["--cgroupns=private"]),
    ("control groups", Step.MEMORY, E.EACCES, Facts(systemd=False), ["Run the tests as the host's root"]),
    ("old kernel", Step.BIND, E.ENOSYS, Facts(release="5.10.0-28-amd64"), ["Linux 5.10.0-28-amd64 is too old", "5.12", "Debian 12"]),
    ("old kernel, overlay", Step.OVERLAY, E.EPERM, Facts(release="5.4.0-150-generic"), ["Linux 5.4.0-150-generic is too old", "5.11"]),
    ("no overlayfs", Step.OVERLAY, E.ENODEV, Facts(), ["sudo modprobe overlay"]),
    ("nowhere to write", Step.OVERLAY, E.EROFS, Facts(), ["--nsjail-store=DIR"]),
    ("no lower layer", Step.OVERLAY, E.EINVAL, Facts(), ["--nsjail-store=/var/tmp/nsjail"]),
    ("old kernel, tmpfs", Step.REPLACED, E.EIO, Facts(release="6.1.0-18-amd64"), ["6.6", "6.1.0-18-amd64", "Run as root"]),
    ("namespace limits", Step.USER, E.ENOSPC, Facts(limits=(("user", 0), ("net", 9))), ["sudo sysctl user.max_user_namespaces=15000'"]),
    ("namespace limits", Step.USER, E.ENOSPC, DOCKER._replace(limits=(("user", 0),)), ["on the host"]),
    ("namespace limits", Step.NETWORK, E.ENOSPC, Facts(limits=(("user", 9), ("net", 0))), ["sudo sysctl user.max_net_namespaces=15000'"]),
    ("namespace limits", Step.USER, E.ENOSPC, Facts(limits=(("user", 96365),)), ["32 deep"]),
    ("namespace limits", Step.USER, E.EUSERS, Facts(limits=(("user", 0),), release="4.4.0"), ["15000"]),
    ("no such namespaces", Step.USER, E.EINVAL, Facts(), ["/proc/config.gz"]),
    ("chroot", Step.USER, E.EPERM, Facts(chroot=True), ["This is a chroot", "systemd-nspawn -D"]),
    ("chroot", Step.PIVOT, E.EINVAL, Facts(chroot=True, privileged=True), ["This is a chroot"]),
    ("chroot", Step.PRIVATE, E.EINVAL, Facts(chroot=True, privileged=True), ["This is a chroot"]),
    ("rootfs", Step.PIVOT, E.EINVAL, Facts(rootfs=True), ["initramfs", "mount --move . /"]),
    ("Debian's switch", Step.USER, E.EPERM, Facts(userns_clone=0), ["sudo sysctl -w kernel.unprivileged_userns_clone=1"]),
    ("root without rights", Step.MAP, E.EPERM, Facts(uid=0), ["--cap-add SETFCAP"]),
    ("hidden /proc", Step.MAP, E.EPERM, Facts(hidden=True), ["sudo mount -o remount,hidepid=0 /proc"]),
    ("Ubuntu's AppArmor", Step.USER, E.EACCES, UBUNTU, ["sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0'", "/etc/sysctl.d/", "as root"]),
    ("Ubuntu's AppArmor", Step.MAP, E.EPERM, UBUNTU, ["pytest-nsjail /home/me/v/bin/python3.12 flags=(unconfined) { userns, }", "sudo apparmor_parser -r"]),
    ("Ubuntu's AppArmor", Step.PRIVATE, E.EACCES, UBUNTU, ["kernel.apparmor_restrict_unprivileged_userns=0"]),
    ("Ubuntu's AppArmor", Step.LOOPBACK, E.EPERM, UBUNTU, ["kernel.apparmor_restrict_unprivileged_userns=0"]),
    ("Ubuntu's AppArmor", Step.USER, E.EPERM, UBUNTU._replace(ci="github"), ["run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"]),
    ("Ubuntu's AppArmor", Step.MOUNT, E.EPERM, UBUNTU._replace(container="docker"), ["on the host, for no option of a container's lifts it"]),
    ("chroot, by elimination", Step.USER, E.EPERM, Facts(), ["must be a chroot"]),
    ("a jail of our own", Step.PROC, E.EPERM, DOCKER._replace(masked=("/proc/1", "/proc/sys")), ["in a jail already", "@pytest.mark.isolated(False)"]),
    ("Kubernetes", Step.USER, E.EPERM, DOCKER._replace(container="kubernetes"), ["hostUsers: false", "seccompProfile: {type: Unconfined}"]),
    ("Kubernetes", Step.PROC, E.EPERM, Facts(container="kubernetes", masked=("/proc/acpi",)), ["procMount: Unmasked", "appArmorProfile: {type: Unconfined}"]),
    ("Podman", Step.PROC, E.EPERM, Facts(container="podman", filtered=True, masked=("/proc/acpi",)), ["podman run --security-opt unmask=ALL"]),
    ("Podman", Step.TMPFS, E.EACCES, Facts(container="podman", label="system_u:system_r:container_t:s0:c1,c2"), ["--security-opt label=disable"]),
    ("Podman", Step.BIND, E.ENOSYS, Facts(container="podman", filtered=True), ["--security-opt seccomp=unconfined"]),
    ("Docker", Step.USER, E.EPERM, DOCKER, [f"docker run {DEFAULT_OPTIONS}\n", "--privileged", "docker build"]),
    ("Docker", Step.USER, E.EPERM, DOCKER._replace(uid=0), [DEFAULT_OPTIONS]),
    ("Docker", Step.PIVOT, E.EPERM, DOCKER._replace(uid=0, privileged=True), ["--security-opt seccomp=unconfined"]),
    ("Docker", Step.PRIVATE, E.EACCES, DOCKER, ["--security-opt apparmor=unconfined"]),
    ("Docker", Step.PROC, E.EPERM, Facts(container="docker", masked=("/proc/acpi",)), ["--security-opt systempaths=unconfined"]),
    ("Docker", Step.USER, E.EPERM, DOCKER._replace(ci="github"), [f"options: {DEFAULT_OPTIONS}", "without 'container:'"]),
    ("Docker", Step.USER, E.EPERM, DOCKER._replace(ci="gitlab"), ['security_opt = ["seccomp=unconfined", ', "privileged = true"]),
    ("masked /proc", Step.PROC, E.EPERM, Facts(masked=("/proc/sys",)), ["mounted on /proc/sys", "outside of the sandbox"]),
    ("seccomp", Step.USER, E.EPERM, Facts(filtered=True), ["Seccomp: 2", "RestrictNamespaces="]),
    ("seccomp", Step.BIND, E.ENOSYS, Facts(filtered=True), ["mount_setattr"]),
    ("SELinux", Step.TMPFS, E.EACCES, Facts(label="staff_u:staff_r:staff_t:s0"), ["staff_u:staff_r:staff_t:s0", "ausearch -m avc"]),
    ("full", Step.PID, E.ENOMEM, Facts(), ["ulimit -a"]),
    ("denied", Step.TMPFS, E.EPERM, Facts(), ["sudo dmesg", "as root"]),
    ("unknown", Step.UTS, E.ETIMEDOUT, Facts(), ["sudo dmesg"]),
]


@pytest.mark.parametrize(("name", "step", "number", "known", "words"), TABLE, ids=[f"{line[0]}: {line[1].name}" for line in TABLE])
def test_each_environment_has_its_way_out(name: str, step: Step, number: int, known: Facts, words: list[str]) -> None:
    topic = Topic.of(step.value)
    assert topic is not None
    assert row(Refusal(topic, number, known)).name == name
    advice = advise(step.value, number, known)
    assert [word for word in words if word not in advice + "\n"] == []


def test_every_row_is_met() -> None:
    assert {line[0] for line in TABLE} == {row.name for row in ROWS}


def test_a_privileged_container_is_not_blamed() -> None:
    assert "docker run" not in advise(Step.TMPFS.value, E.EPERM, Facts(container="docker", label="unconfined"))


def test_root_is_not_told_to_become_root() -> None:
    assert "unprivileged_userns_clone" not in advise(Step.PAYLOAD.value, E.EPERM, Facts(userns_clone=0, privileged=True))


STEPS: list[steps.Step] = [
    steps.Unshare(("mount", "network")), steps.Stage("/s"), steps.Proc(), steps.ProtectProc(("sys",)), steps.Devices(), steps.Loopback(),
    steps.Overlay("/i", True), steps.Furnish(), steps.BindPath("/a", "/b", False, (1, 2)), steps.BindPath("/a", "/b", True, (1, 2)),
    steps.BindPath("/a", "/b", True, (1, 2), IdMap((), (), True)),
    steps.MountTmpfs("/t", 1, 0o755), steps.BindDevice("/dev/fuse"), steps.ReadOnlyRoot(), steps.Pivot(), steps.Hostname("h"), steps.Terminal("/dev/pts/0"),
    steps.Hold((("/a", True),), "/p", (), 0, 0, True), steps.HostRoot((("/tmp", 0o1777),)), steps.Workplace((("/a", True),), "/p", (), 0, 0, True),
    steps.Workplace((("/a", True),), "", (), 0, 0, True), steps.Unstage(), steps.ShareNetwork(), steps.ShareIpc(), steps.MountHosts("/etc/hosts"),
]


@pytest.mark.parametrize("words", [
    *(step.value for step in Step),
    *(steps.describe(step) for step in STEPS),
    "a user namespace (unshare(CLONE_NEWUSER))",
    "root of the user namespace (setresuid)",
    "a mount namespace (unshare(CLONE_NEWNS))",
    "private mounts (mount --make-rprivate /)",
    "a pid namespace (unshare(CLONE_NEWPID))",
    "a pid namespace for the jail (unshare(CLONE_NEWPID))",
    "map the ids of the user namespace: newuidmap: open of uid_map failed",
    "map the user namespace",
    "enter the user namespace",
    "enter the cgroup namespace",
    "become user 500, group 500",
    "join the control groups",
])
def test_every_step_that_a_jail_can_fail_at_has_a_topic(words: str) -> None:
    assert Topic.of(words) is not None
    assert advise(words, E.EPERM, Facts())


def test_all_the_steps_of_a_plan_are_above() -> None:
    assert {type(step) for step in STEPS} == set(steps._KINDS.values())


def test_a_path_in_a_step_does_not_change_what_it_is_about() -> None:
    assert Topic.of("a private tmpfs on /home/me/a fresh /proc/an overlay") is Topic.MOUNT


def test_an_error_is_explained_once() -> None:
    error = explained(SetupError("an overlay over the image /x", E.ENODEV))
    assert "sudo modprobe overlay" in error.advice
    assert str(error).startswith("cannot make the jail: an overlay over the image /x (No such device, errno 19). The kernel has not")
    for final in (SetupError("a fresh /proc", E.EPERM, "do this"), SetupError("the zygote is gone", E.EPIPE), SetupError("a fresh /proc")):
        assert explained(final) is final

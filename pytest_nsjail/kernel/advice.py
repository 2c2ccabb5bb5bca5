"""The exact way out, for a step that the kernel refused on this host."""

from __future__ import annotations

import errno as errors
from collections.abc import Callable
from typing import NamedTuple

from pytest_nsjail.errors import SetupError
from pytest_nsjail.kernel import ways
from pytest_nsjail.kernel.facts import Facts, facts
from pytest_nsjail.kernel.refusal import Refusal, Topic

# The kinds of namespaces are each a kernel's option.
_UNSHARED = (Topic.USER, Topic.NAMESPACE, Topic.CGROUP_NAMESPACE)


class Row(NamedTuple):
    """One known reason.

    :param name: of the environment, for who reads the table.
    :param applies: whether it is the reason of a refusal.
    :param way: the way out; a line is an alternative.
    """

    name: str
    applies: Callable[[Refusal], bool]
    way: Callable[[Refusal], str]


def advise(step: str, errno: int, facts: Facts) -> str:
    """The way out.

    :param step: in words, the probe's or the jail's.
    :param errno: the kernel's answer.
    :return: lines, each an alternative; empty for a step that is none of making a jail.
    """
    topic = Topic.of(step)
    if topic is None:
        return ""
    return row(Refusal(topic, errno, facts)).way(Refusal(topic, errno, facts))


def row(refusal: Refusal) -> Row:
    """The row of the table that a refusal is on: the first that applies."""
    return next(row for row in ROWS if row.applies(refusal))


def explained(error: SetupError) -> SetupError:
    """The same error with this host's way out, where it has none yet and the kernel's answer is known."""
    if error.advice or not error.errno:
        return error
    advice = advise(error.step, error.errno, facts())
    return SetupError(error.step, error.errno, advice) if advice else error


def _constrained(said: Facts) -> bool:
    """Whether a container's defaults are on: its marks alone say nothing, a privileged one has them too."""
    return said.filtered or bool(said.masked) or _confined(said)


def _confined(said: Facts) -> bool:
    """Whether a security module has a rule for this process."""
    return said.label not in ("", "kernel") and "unconfined" not in said.label


def _in(container: str) -> Callable[[Refusal], bool]:
    def applies(refusal: Refusal) -> bool:
        forbidden = refusal.denied or (refusal.errno == errors.ENOSYS and refusal.facts.filtered)
        return forbidden and refusal.facts.container == container and _constrained(refusal.facts)

    return applies


def _is(topic: Topic, *numbers: int) -> Callable[[Refusal], bool]:
    return lambda refusal: refusal.topic is topic and refusal.errno in numbers


def _is_rooted(refusal: Refusal) -> bool:
    """Whether it is what the kernel says to a process whose root is no mount point."""
    return refusal.topic in (Topic.PIVOT, Topic.MOUNT) and refusal.errno == errors.EINVAL


def _is_about(topic: Topic) -> Callable[[Refusal], bool]:
    return lambda refusal: refusal.topic is topic


def _says(way: str) -> Callable[[Refusal], str]:
    return lambda refusal: way


# The most particular first.
ROWS = (
    Row("gVisor", lambda at: at.facts.system == "gvisor", _says(
        "gVisor is no Linux kernel, and has not all of its namespaces: run the tests under another runtime, 'docker run --runtime=runc'",
    )),
    Row("WSL 1", lambda at: at.facts.system == "wsl1", _says(
        "The first WSL has no Linux kernel: in Windows, 'wsl --set-version NAME 2', with NAME from 'wsl --list'",
    )),
    Row("several ids", _is_about(Topic.IDS), ways.ids),
    Row("control groups", _is_about(Topic.GROUPS), ways.groups),
    # ENOSYS of a kernel that has the call is a filter's, as Podman's profile gives it for what it does not know.
    Row("old kernel", lambda at: at.errno == errors.ENOSYS and at.facts.kernel < (5, 12), ways.too_old),
    # No errno of its own: EPERM, of a file system that cannot be mounted in a user namespace.
    Row("old kernel, overlay", lambda at: at.topic is Topic.OVERLAY and at.denied and at.facts.kernel < (5, 11), ways.too_old),
    Row("no overlayfs", _is(Topic.OVERLAY, errors.ENODEV), _says("The kernel has not loaded overlayfs, and only root may: 'sudo modprobe overlay'")),
    Row("nowhere to write", _is(Topic.OVERLAY, errors.EROFS, errors.EACCES), _says(
        "The store needs a directory that can be written: --nsjail-store=DIR, or PYTEST_NSJAIL_STORE=DIR in the environment",
    )),
    Row("no lower layer", _is(Topic.OVERLAY, errors.EINVAL, errors.EREMOTE, errors.ELOOP, errors.ESTALE, errors.EOPNOTSUPP), _says(
        "The store's file system cannot be the lower layer of an overlay. Put the store on a local one (ext4, xfs, btrfs, tmpfs), no network's and no overlay:"
        " --nsjail-store=/var/tmp/nsjail",
    )),
    # tmpfs has user.* attributes since 6.6 ("tmpfs: add support for user xattrs"); root has trusted.* ones.
    Row("old kernel, tmpfs", _is_about(Topic.REPLACED), lambda at: (
        "In jails here, no program can remove a directory of its image with what is in it, nor make one where it removed something ('Input/output error'):"
        f" a plain user's overlay over a tmpfs can since Linux 6.6, and this is {at.facts.release}. Run as root, or have programs write elsewhere: Tmpfs(...)"
    )),
    # 4.9 and later say ENOSPC, earlier ones EUSERS.
    Row("namespace limits", lambda at: at.topic in _UNSHARED and at.errno in (errors.ENOSPC, errors.EUSERS), ways.exhausted),
    Row("no such namespaces", lambda at: at.topic in _UNSHARED and at.errno in (errors.EINVAL, errors.ENOSYS) and not at.facts.filtered, _says(
        "This kernel was built without namespaces of that kind ('zgrep _NS= /proc/config.gz'): boot a distribution's own",
    )),
    # bubblewrap#172: create_user_ns() in kernel/user_namespace.c asks.
    Row("chroot", lambda at: at.facts.chroot and ((at.topic is Topic.USER and at.denied) or _is_rooted(at)), ways.chroot),
    # bubblewrap#594: pivot_root(2), "the rootfs cannot be pivot_rooted".
    Row("rootfs", lambda at: at.facts.rootfs and at.topic is Topic.PIVOT, _says(
        "The root is the kernel's initial file system (an initramfs), which cannot be left: boot from a disk, or first"
        " 'mount --bind / /mnt && cd /mnt && mount --move . / && chroot .'",
    )),
    Row("Debian's switch", lambda at: at.facts.userns_clone == 0 and not at.facts.privileged and at.topic is Topic.USER and at.denied, _says(
        "This host keeps user namespaces for root: run 'sudo sysctl -w kernel.unprivileged_userns_clone=1', and keep it by a file in /etc/sysctl.d",
    )),
    # Linux 5.12 (verify_root_map() in kernel/user_namespace.c): who maps the parent's root needs CAP_SETFCAP.
    Row("root without rights", lambda at: at.topic is Topic.MAP and at.denied and at.facts.uid == 0 and not at.facts.privileged, _says(
        "Root without its capabilities may not map itself (CAP_SETFCAP): run pytest as a plain user, or keep the capability: docker run --cap-add SETFCAP",
    )),
    Row("hidden /proc", lambda at: at.topic is Topic.MAP and at.facts.hidden, _says(
        "/proc is mounted with hidepid, so that a child's id map is out of reach (bubblewrap#198): 'sudo mount -o remount,hidepid=0 /proc'",
    )),
    Row("Ubuntu's AppArmor", lambda at: at.facts.apparmor_restricts and not at.facts.privileged and at.denied, ways.apparmor),
    # A plain user cannot see that the root is not the namespace's, if only it is a mount point; but nothing else is left that would say no.
    Row("chroot, by elimination", lambda at: _is(Topic.USER, errors.EPERM)(at) and not (at.facts.filtered or _confined(at.facts)), ways.chroot),
    # mount_too_revealing() in fs/namespace.c: a jail's /proc is covered in places, and nobody in it shall see what is under the covers.
    Row("a jail of our own", lambda at: "/proc/1" in at.facts.masked and at.denied, _says(
        "This process is in a jail already, where the kernel refuses what a jail begins with: exempt the test by @pytest.mark.isolated(False),"
        " or use nsjail_run and nsjail_start, whose jails are made beside the test's own"
    )),
    Row("Kubernetes", _in("kubernetes"), ways.kubernetes),
    Row("Podman", _in("podman"), ways.podman),
    Row("Docker", _in("docker"), ways.docker),
    Row("masked /proc", _is(Topic.PROC, errors.EPERM), ways.masked),
    Row("seccomp", lambda at: at.facts.filtered and (at.denied or at.errno == errors.ENOSYS), ways.filtered),
    Row("SELinux", lambda at: at.denied and at.facts.label.count(":") >= 3, ways.selinux),
    Row("full", lambda at: at.errno in (errors.ENOMEM, errors.EAGAIN, errors.EMFILE, errors.ENFILE), _says(
        "The host, or this user's limits ('ulimit -a'), have no room for it now: end what runs, or raise the limit",
    )),
    Row("denied", lambda at: at.denied, _says(
        "No reason of this is known here; a security module's is in 'sudo dmesg'. Root may do it: run the tests as root, or in a container with --privileged",
    )),
    Row("unknown", lambda at: True, _says("No reason of this is known here: 'sudo dmesg' may say more")),
)

"""The ways out that take more than one sentence: a line is an alternative. The comments say who met the obstacle."""

from __future__ import annotations

import errno as errors

from pytest_nsjail.kernel.refusal import Refusal, Topic


def apparmor(refusal: Refusal) -> str:
    """Ubuntu 23.10 and later."""
    # nixpkgs#399300, bazel#24081: with the sysctl, a user namespace has no capability unless its program's AppArmor profile says "userns".
    where = " on the host, for no option of a container's lifts it" if refusal.facts.container else ""
    step = "add a step before the tests, 'run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0'" if refusal.facts.ci == "github" else (
        f"run 'sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0'{where}"
    )
    profile = f"abi <abi/4.0>, profile pytest-nsjail {refusal.facts.python} flags=(unconfined) {{ userns, }}"
    return (
        f"Ubuntu's AppArmor takes the rights out of user namespaces: {step}\n"
        "To keep it so: echo 'kernel.apparmor_restrict_unprivileged_userns = 0' | sudo tee /etc/sysctl.d/60-nsjail.conf\n"
        f"Or for this interpreter alone (best one of a venv made with --copies): echo '{profile}' | sudo tee /etc/apparmor.d/pytest-nsjail"
        " && sudo apparmor_parser -r /etc/apparmor.d/pytest-nsjail\n"
        "Or run the tests as root"
    )


def exhausted(refusal: Refusal) -> str:
    """A limit on the number of namespaces."""
    zero = [f"user.max_{kind}_namespaces" for kind, limit in refusal.facts.limits if limit == 0]
    if zero:
        # charliecloud#133: RHEL 7 and hosts hardened after the STIG. A container's value is its own; the host's counts as well.
        where = " on the host" if refusal.facts.container else ""
        sysctl = " ".join(f"{name}=15000" for name in zero)
        return f"This host allows no such namespace: run 'sudo sysctl {sysctl}'{where}, and keep it by a file in /etc/sysctl.d"
    return (
        "As many namespaces as the kernel allows are there: they may be nested 32 deep (user_namespaces(7)), so start pytest from fewer sandboxes;"
        " or raise the limits outside of this one: 'sudo sysctl user.max_user_namespaces=15000', and the other user.max_*_namespaces"
    )


def chroot(refusal: Refusal) -> str:
    """A chroot."""
    sure = "This is a chroot" if refusal.facts.chroot else "Nothing else here forbids it, so this must be a chroot"
    return f"{sure}, and in one the kernel makes no user namespace: run pytest outside of it, or enter it by 'systemd-nspawn -D DIR' instead"


def docker(refusal: Refusal) -> str:
    """Docker, by hand or as a CI's."""
    # moby's default profile has no unshare, mount and setns without CAP_SYS_ADMIN, and no pivot_root even with it. Without the profile no capability is needed:
    # root is a plain user with a user namespace then. With one, it takes NET_ADMIN as well, for the loopback interface (Docker 20.10).
    options = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
    throwaway = "Or --privileged, where the machine is a throwaway one. 'docker build' cannot be relaxed: run the tests in 'docker run'"
    if refusal.facts.ci == "github":
        return f"Docker's defaults forbid namespaces: give the job's container 'options: {options}'\nOr run the job without 'container:'"
    if refusal.facts.ci == "gitlab":
        return (
            "GitLab's docker executor forbids namespaces, and a job cannot allow them. The runner's administrator can, in config.toml below [runners.docker]:"
            ' security_opt = ["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"]\n'
            "Or there: privileged = true, where each machine serves one job. Or run the tests by a shell executor"
        )
    return f"Docker's defaults forbid namespaces: docker run {options}\n{throwaway}"


def kubernetes(refusal: Refusal) -> str:
    """A pod."""
    return (
        "Kubernetes' defaults forbid namespaces. In the pod's spec: 'hostUsers: false'; in the container's securityContext: 'procMount: Unmasked',"
        " 'seccompProfile: {type: Unconfined}' and 'appArmorProfile: {type: Unconfined}'"
    )


def podman(refusal: Refusal) -> str:
    """Podman, most often rootless."""
    # bubblewrap#505, #284: its filter allows what jails need, but /proc is masked and SELinux may deny a tmpfs.
    if refusal.topic is Topic.PROC:
        return "Podman covers parts of /proc, and the kernel then refuses a fresh one: podman run --security-opt unmask=ALL"
    return "Podman's defaults forbid this: podman run --security-opt unmask=ALL --security-opt label=disable --security-opt seccomp=unconfined"


def masked(refusal: Refusal) -> str:
    """A /proc with covers."""
    covered = ", ".join(refusal.facts.masked[:4]) or "a part of it"
    return (
        "The kernel refuses a fresh /proc where every visible one is read-only or covered in part (mount_too_revealing in fs/namespace.c):"
        f" here by what is mounted on {covered}. Run pytest outside of the sandbox that did it, or unmount that"
    )


def ids(refusal: Refusal) -> str:
    """newuidmap(1)."""
    user = refusal.facts.user
    ranges = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
    if not refusal.facts.newuidmap:
        install = "install newuidmap: 'sudo apt-get install uidmap' (Debian, Ubuntu), 'sudo dnf install shadow-utils' (Fedora, RHEL)"
        return f"For jails with several users, {install}" + ("" if refusal.facts.subordinate else f"; then '{ranges}'")
    if not refusal.facts.subordinate:
        return f"For jails with several users, give {user} a range of ids: '{ranges}'"
    if not refusal.facts.gains:
        return "For jails with several users, run pytest without no_new_privs (Docker's --security-opt no-new-privileges, systemd's NoNewPrivileges=, bwrap)"
    # podman#20336, #13360: a copied image, or a container's, has lost the bit.
    return (
        "newuidmap has no right to do it: 'sudo chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap'; where they have the bit, /usr is mounted nosuid,"
        " or this is a sandbox whose root is another\n"
        f"Or go without: take {user} out of /etc/subuid and /etc/subgid, and a jail has one user"
    )


def too_old(refusal: Refusal) -> str:
    """An old kernel."""
    return (
        f"Linux {refusal.facts.release} is too old: jails need open_tree, move_mount (5.2) and mount_setattr (5.12), overlays of a plain user 5.11."
        " Run on Linux 5.12 or later: Debian 12, Ubuntu 22.04, RHEL 9"
    )


def groups(refusal: Refusal) -> str:
    """Control groups."""
    # langbot#69: a read-only cgroupfs shows every file as writable.
    known = refusal.facts
    if known.read_only or refusal.errno == errors.EROFS:
        options = "docker run --cgroupns=private -v /sys/fs/cgroup:/sys/fs/cgroup:rw --user root"
        return f"Control groups are mounted read-only here: '{options}', or 'podman run --systemd=always'. Without them a limit is held as said here"
    if known.systemd and not known.container and known.uid:
        return "Have a group delegated: 'systemd-run --user --scope -p Delegate=yes pytest'. Without one a limit is held as said here"
    return "Run the tests as the host's root, whose the control groups are. Without them a limit is held as said here"


def filtered(refusal: Refusal) -> str:
    """A seccomp filter of nobody's known."""
    # From the outside a filter cannot be read, so that the way out is whoever put it there.
    return (
        "A seccomp filter is on this process ('Seccomp: 2' in /proc/self/status): run pytest outside of what set it (a systemd unit's RestrictNamespaces="
        " or SystemCallFilter=, a snap, a flatpak, a sandbox), or allow unshare, setns, mount, umount2, pivot_root, open_tree, move_mount and mount_setattr"
    )


def selinux(refusal: Refusal) -> str:
    """SELinux."""
    label = refusal.facts.label
    return f"SELinux confines this process as {label}: 'sudo ausearch -m avc -ts recent' names the rule; in a container: --security-opt label=disable"

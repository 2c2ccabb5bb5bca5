"""A virtual machine with another kernel than this host's, and control groups of version 2 alone: the tests run in it as root and as a user.

Off unless NSJAIL_VM=1. It needs qemu-system-x86_64 (no KVM), busybox and, to fetch the kernel, apt-get and dpkg-deb; NSJAIL_VM_KERNEL names a
directory in which a kernel's package is unpacked already, NSJAIL_VM_TESTS what is run in the machine instead of all of tests/jail.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_nsjail.image.build import build
from pytest_nsjail.image.host import HostView
from pytest_nsjail.image.manifest import Manifest
from pytest_nsjail.resolve.closure import resolve
from pytest_nsjail.spec.dependency import Dependency, Directory, Elf, File, Groups, Symlink, Text, Tree, Users

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
KERNEL = "linux-image-cloud-amd64"
# In the order in which they need each other; modprobe is not in the machine.
MODULES = ("overlay", "llc", "stp", "bridge", "veth", "sch_tbf", "sch_netem", "inet_diag", "tcp_diag", "udp_diag", "unix_diag")
# The whole of it, in seconds: every instruction in the machine is translated.
DEADLINE = 1800
# Pure Python all of them: their interpreter in the machine is Debian's.
DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments", "pyelftools", "pyroute2")
NOT_IN_STDLIB = ("test", "idlelib", "tkinter", "lib2to3", "ensurepip", "pydoc_data", "config-*", "lib-dynload", "sitecustomize.py")

# What runs in the machine is no test of this host's.
collect_ignore_glob = ["inside/*"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("NSJAIL_VM") != "1":
        ours = [item for item in items if HERE in item.path.parents]
        items[:] = [item for item in items if item not in ours]
        config.hook.pytest_deselected(items=ours)


class Phase(NamedTuple):
    """What one part of init.sh printed, and how it ended."""

    status: int
    output: str


class Machine(NamedTuple):
    """A machine that was started, did its work, and went off.

    :ivar phases: by their names in init.sh.
    :ivar console: all that was printed.
    """

    phases: dict[str, Phase]
    console: str


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    place = tmp_path_factory.mktemp("vm")
    kernel, modules = _kernel(place)
    (place / "initramfs").write_bytes(gzip.compress(b"".join(_archive(_root(place, modules))), 1))
    console = _boot(place, kernel)
    ended = re.finditer(r"^@@ begin (\S+)\n(.*?)^@@ end \1 (\d+)$", console, re.MULTILINE | re.DOTALL)
    return Machine({one[1]: Phase(int(one[3]), one[2]) for one in ended}, console)


def _kernel(place: Path) -> tuple[Path, list[Path]]:
    """The kernel, and its modules that the tests need, unpacked and not installed: installing would touch this host's boot loader."""
    unpacked = Path(os.environ.get("NSJAIL_VM_KERNEL") or place / "kernel")
    if not unpacked.exists():
        depends = subprocess.run(["apt-cache", "depends", "--important", KERNEL], capture_output=True, text=True, check=True).stdout
        package = re.search(r"Depends: (linux-image-\S+)", depends)
        assert package, f"{KERNEL} is in no package list here: apt-get update"
        subprocess.run(["apt-get", "download", "--quiet", "--quiet", package[1]], cwd=place, check=True)
        subprocess.run(["dpkg-deb", "--extract", *place.glob("*.deb"), unpacked], check=True)
    return next(unpacked.glob("boot/vmlinuz-*")), [next(unpacked.glob(f"lib/modules/*/kernel/**/{name}.ko")) for name in MODULES]


def _root(place: Path, modules: list[Path]) -> Path:
    """The machine's root: what the project itself finds that its programs need."""
    subprocess.run(["gcc", "-static", "-O1", "-o", place / "probe", PROJECT / "tests/jail/probe.c"], check=True)
    stdlib = Path(subprocess.run(["/usr/bin/python3", "-c", "import os; print(os.__file__)"], capture_output=True, text=True, check=True).stdout).parent
    dependencies: list[Dependency] = [
        *(Elf(program) for program in ("/bin/busybox", "/usr/bin/python3", "/usr/bin/newuidmap", "/usr/bin/newgidmap", "/usr/bin/setpriv")),
        *(Elf(str(module)) for module in (stdlib / "lib-dynload").glob("*.so")),
        Tree(str(stdlib), exclude=NOT_IN_STDLIB),
        *(part for name in DISTRIBUTIONS for part in _distribution(name)),
        *(File(str(module), f"/lib/modules/{number}-{module.name}") for number, module in enumerate(modules)),
        Tree(str(PROJECT / "pytest_nsjail"), "/project/pytest_nsjail", exclude=("__pycache__",)),
        *(Tree(str(PROJECT / f"tests/{part}"), f"/project/tests/{part}", exclude=("__pycache__",)) for part in ("jail", "network")),
        Tree(str(HERE / "inside"), "/project/tests/jail/inside", exclude=("__pycache__",)),
        File(str(PROJECT / "pyproject.toml"), "/project/pyproject.toml"),
        File(str(HERE / "init.sh"), "/init", mode=0o755),
        File(str(place / "probe"), "/usr/lib/probe"),
        # The probe is compiled already; a compiler is as large as all the rest.
        Text("/usr/bin/gcc", '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nexec cp /usr/lib/probe "$2"\n', mode=0o755),
        Users(root=0, tester=1000), Groups(tty=5),
        *(Text(f"/etc/{name}", "tester:100000:65536\n") for name in ("subuid", "subgid")),
        *(Directory(f"/{name}") for name in ("dev", "etc", "home/tester", "mnt", "proc", "root", "run", "sys", "var/tmp", "new")),
        Directory("/tmp", 0o1777), Symlink("/usr/bin/sh", "busybox"),
    ]
    # No subdirectory for better CPUs (glibc-hwcaps): the machine's is its own.
    closure = resolve(dependencies, HostView(), cpu_levels=())
    build(closure, Manifest.of(closure), str(place / "root"))
    return place / "root"


def _distribution(name: str) -> Iterator[Dependency]:
    """What a distribution put into site-packages: its packages, its modules, and what it says of itself."""
    distribution = importlib.metadata.distribution(name)
    for top in sorted({file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}):
        source, target = str(distribution.locate_file(top)), f"/usr/lib/python3/dist-packages/{top}"
        yield Tree(source, target) if os.path.isdir(source) else File(source, target)


def _archive(root: Path) -> Iterator[bytes]:
    """A directory as the kernel unpacks it: Documentation/driver-api/early-userspace/buffer-format.rst, all of it root's."""
    paths = [root, *sorted(root.rglob("*"))]
    for number, path in enumerate(paths, 1):
        status = path.lstat()
        content = os.fsencode(path.readlink()) if stat.S_ISLNK(status.st_mode) else path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        yield _member(str(path.relative_to(root)), number, status.st_mode, int(status.st_mtime), content)
    yield _member("TRAILER!!!", 0, 0, 0, b"")


def _member(name: str, number: int, mode: int, mtime: int, content: bytes) -> bytes:
    encoded = os.fsencode(name) + b"\0"
    fields = (number, mode, 0, 0, 1, mtime, len(content), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def _boot(place: Path, kernel: Path) -> str:
    """Everything on the console, until the machine is off or its time is up."""
    tests = os.environ.get("NSJAIL_VM_TESTS", "tests/jail")
    command = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1G", "-nodefaults", "-display", "none", "-no-reboot",
        "-serial", "stdio", "-kernel", str(kernel), "-initrd", str(place / "initramfs"), "-append", f"console=ttyS0 loglevel=2 panic=-1 TESTS={tests}",
    ]
    log = place / "console"
    with log.open("wb") as output, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT) as qemu:
        try:
            qemu.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            qemu.kill()
    console = log.read_text(encoding="utf-8", errors="replace").replace("\r", "")
    assert "@@ off" in console, f"the machine did not come to its end within {DEADLINE} s:\n{console[-4000:]}"
    return console

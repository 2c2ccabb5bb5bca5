"""How long it takes to run a program that does nothing, in every kind of cage this host has."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_nsjail import Elf
from pytest_nsjail.runtime import Runtime
from tests.benchmarks import engine
from tests.benchmarks.measure import back_to_back, interleaved, table

ROUNDS = 200
OURS = "nsjail_run"


def compiled(directory: Path, compiler: str = "musl-gcc") -> Path:
    """A static program that ends at once.

    With musl by default: glibc's start-up asks the processor for its features, which on a virtual machine takes half a millisecond (CPUID
    leaves the guest, some thirty times).
    """
    program = directory / "true"
    subprocess.run([compiler, "-static", "-Os", "-x", "c", "-o", program, "-"], input=b"int main(void) { return 0; }\n", check=True)
    return program


def measured(directory: Path) -> str:
    """The tables: with a breath between two programs, as a test suite has it, and without one; and another program."""
    (directory / "glibc").mkdir()
    apart, together = _measured(directory, compiled(directory))
    other, _ = _measured(directory / "glibc", compiled(directory / "glibc", "gcc"))
    return f"{apart}\n\nBack to back, in turns of ten:\n\n{together}\n\nLinked with glibc:\n\n{other}"


def _measured(directory: Path, true: Path) -> tuple[str, str]:
    bwrap, kind = bubblewrap(directory / "root", true)
    with Runtime(str(directory / "store")) as runtime, docker(directory / "docker", true) as docked:
        image = runtime.image(Elf(true, to="/true"))
        ways: dict[str, Callable[[], object]] = {
            OURS: lambda: _checked(runtime.run(["/true"], image=image)),
            "subprocess.run": lambda: _run([str(true)]),
            kind: lambda: _run(bwrap),
        }
        if docked:
            ways["docker run --rm"] = lambda: _run(docked)
        return table(interleaved(ways, ROUNDS, warm_up=5, pause=0.008), OURS), table(back_to_back(ways, ROUNDS), OURS)


def bubblewrap(root: Path, true: Path) -> tuple[list[str], str]:
    """The same namespaces and mounts by bwrap, and what to call it."""
    for name in ("proc", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(true, root / "true")
    known = subprocess.run(["bwrap", "--help"], check=True, capture_output=True, text=True)
    if "--tmp-overlay" in known.stdout + known.stderr:
        layer, kind = ["--overlay-src", str(root), "--tmp-overlay", "/"], "bwrap, overlay"
    else:
        # bubblewrap has overlays from 0.11 on: an older one gets the root itself, writable, which is less work for it than a throwaway layer.
        layer, kind = ["--bind", str(root), "/"], "bwrap, no overlay"
    namespaces = ["--unshare-user", "--unshare-all", "--hostname", "nsjail", "--new-session", "--die-with-parent", "--uid", "0", "--gid", "0"]
    mounts = [*layer, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    return ["bwrap", *namespaces, "--clearenv", *mounts, "/true"], kind


@contextmanager
def docker(root: Path, true: Path) -> Iterator[list[str] | None]:
    """The command that runs an image of the same one file, or None where no engine answers."""
    if not engine.answers():
        yield None
        return
    root.mkdir()
    shutil.copy(true, root / "true")
    with engine.image(root, 'CMD ["/true"]') as tag:
        yield ["docker", "run", "--rm", "--network", "none", tag]


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def _checked(result: object) -> None:
    if not getattr(result, "ok", False):
        raise SystemExit(f"the jailed program failed: {result!r}")

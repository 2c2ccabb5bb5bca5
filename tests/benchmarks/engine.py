"""Docker, as a peer to measure against, with images of the same files: built FROM scratch, for no registry is needed then."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TAG = "pytest-nsjail-benchmark"


def answers() -> bool:
    """Whether there is an engine."""
    return shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0


@contextmanager
def image(root: Path, *lines: str) -> Iterator[str]:
    """An image of a directory's files: its tag.

    :param lines: more of its Dockerfile.
    """
    # Nothing is written into the directory, which may be of a store.
    dockerfile = "\n".join(["FROM scratch", "COPY . /", *lines, ""])
    build = ["docker", "build", "--quiet", "--tag", _TAG, "--file", "-", str(root)]
    ran = subprocess.run(build, input=dockerfile, text=True, capture_output=True)
    if ran.returncode:
        raise SystemExit(f"{' '.join(build)} failed: {ran.stderr}")
    try:
        yield _TAG
    finally:
        subprocess.run(["docker", "rmi", "--force", _TAG], capture_output=True)


@contextmanager
def container(tag: str, port: int) -> Iterator[int]:
    """A container with a published port of TCP: its number on 127.0.0.1."""
    run = subprocess.run(["docker", "run", "--detach", "--publish", f"127.0.0.1::{port}", tag], check=True, capture_output=True, text=True)
    name = run.stdout.strip()
    try:
        said = subprocess.run(["docker", "port", name, f"{port}/tcp"], check=True, capture_output=True, text=True)
        yield int(said.stdout.split()[0].rpartition(":")[2])
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True)

"""Our closures of this host's programs against what its loader finds."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import Kind
from pytest_nsjail.resolve.closure import resolve
from pytest_nsjail.resolve.inside import ClosureView
from pytest_nsjail.resolve.program import program
from pytest_nsjail.resolve.walk import Walker
from pytest_nsjail.spec.dependency import Elf, Script

LOADER = "/lib64/ld-linux-x86-64.so.2"
pytestmark = pytest.mark.skipif(not os.path.exists(LOADER), reason="needs the glibc of x86-64")


def programs(most):
    """Some programs of /usr/bin, evenly spread."""
    found = []
    for name in sorted(os.listdir("/usr/bin")):
        path = f"/usr/bin/{name}"
        if os.path.isfile(path) and os.access(path, os.R_OK | os.X_OK):
            with open(path, "rb") as file:
                if file.read(20)[:5] == b"\x7fELF\2":
                    found.append(path)
    return found[:: max(1, len(found) // most)]


def levels():
    said = subprocess.run([LOADER, "--help"], capture_output=True, text=True, check=True).stdout
    return tuple(re.findall(r"^  (x86-64-v[234]) \(supported", said, re.MULTILINE))


def test_the_loader_finds_the_same_files(host):
    wrong = []
    ours = levels()
    for path in programs(200):
        real = os.path.realpath(path)
        run = subprocess.run([LOADER, real], env={"LD_TRACE_LOADED_OBJECTS": "1"}, cwd="/", capture_output=True, text=True)
        listed = {os.path.realpath(where) for where in re.findall(r"(/\S+) \(0x", run.stdout)}
        expected = listed | {real} if listed else None  # a static program is no business of the loader
        try:
            found = {entry.path for entry in resolve([Elf(path)], host, cpu_levels=ours) if entry.kind is Kind.FILE} - {"/etc/ld.so.cache"}
        except ResolveError as error:
            found = str(error)
            expected = None if "not found" in run.stdout else expected
        if expected is not None and found != expected:
            wrong.append((path, found, expected))
    assert wrong == []


def test_every_program_of_this_host_resolves_in_one_image(host):
    dependencies = []
    for path in programs(60):
        try:
            resolve([Elf(path)], host)
        except ResolveError:
            continue
        dependencies.append(Elf(path))
    closure = resolve(dependencies, host)
    inside = Walker(ClosureView(closure.entries))
    for dependency in dependencies:
        assert inside.walk(dependency.source).stat.kind is Kind.FILE


def test_scripts_of_this_host(host):
    resolved = 0
    for name in sorted(os.listdir("/usr/bin")):
        path = f"/usr/bin/{name}"
        try:
            dependency = program(path, host)
        except ResolveError:
            continue
        if isinstance(dependency, Script) and resolved < 20:
            closure = resolve([dependency], host)
            assert any("interpreter of" in entry.wanted_by[0] for entry in closure)
            resolved += 1

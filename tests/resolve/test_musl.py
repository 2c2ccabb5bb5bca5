"""musl's rules, in memory and against the real loader."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import Kind
from pytest_nsjail.resolve import elf
from pytest_nsjail.resolve.closure import resolve
from pytest_nsjail.resolve.objects import Spot
from pytest_nsjail.resolve.process import start
from pytest_nsjail.resolve.walk import Walker
from pytest_nsjail.spec.dependency import Elf

LOADER = "/lib/ld-musl-x86_64.so.1"
real = pytest.mark.skipif(not os.path.exists(LOADER), reason="needs musl")


@pytest.fixture
def taken(memory, small_elf):
    def taken(libraries, needed=("libx.so",), **program):
        view = memory({LOADER: small_elf(soname="libc.so"), "/app/prog": small_elf([*needed, "libc.so"], interp=LOADER, **program), **libraries})
        return sorted(set(resolve([Elf("/app/prog")], view).entries) & set(libraries))

    return taken


def test_the_loader_is_libc(taken):
    assert taken({"/lib/libc.so": b"never read"}, needed=["libc.musl-x86_64.so.1", "libpthread.so.0", "libm.so.6"]) == []


def test_runpath_is_inherited(taken, small_elf):
    files = {"/d/libx.so": small_elf(["liby.so"]), "/d/liby.so": small_elf()}
    assert taken(files, runpath="$ORIGIN/../d") == sorted(files)


def test_a_foreign_token_discards_the_whole_path(taken, small_elf):
    with pytest.raises(ResolveError, match=r"libx\.so"):
        taken({"/app/lib/libx.so": small_elf()}, runpath="$ORIGIN/$LIB:$ORIGIN/lib")


def test_soname_satisfies_nobody(taken, small_elf):
    files = {"/lib/libx.so": small_elf(soname="libalias.so"), "/lib/liby.so": small_elf(["libalias.so"])}
    with pytest.raises(ResolveError, match=r"libalias\.so, which /lib/liby\.so needs"):
        taken(files, needed=["libx.so", "liby.so"])


def test_filters_mean_nothing(taken):
    assert taken({}, needed=(), filters=["libgone.so"]) == []


def test_versions_are_not_checked(taken, small_elf):
    assert taken({"/lib/libx.so": small_elf(defines=["V_1"])}, requires={"libx.so": ["V_2"]}) == ["/lib/libx.so"]


def test_the_path_file_replaces_the_system_directories(taken, small_elf):
    library = small_elf()
    files = {"/etc/ld-musl-x86_64.path": "/one\n/two:/three\n", "/three/libx.so": library, "/lib/libx.so": library}
    assert taken(files) == ["/etc/ld-musl-x86_64.path", "/three/libx.so"]
    assert taken({"/usr/local/lib/libx.so": library, "/usr/lib/libx.so": library}) == ["/usr/local/lib/libx.so"]


def test_another_architecture_is_fatal(taken, small_elf):
    with pytest.raises(ResolveError, match="for another architecture"):
        taken({"/lib/libx.so": small_elf(machine=183), "/usr/lib/libx.so": small_elf()})


def listed(path):
    run = subprocess.run([LOADER, "--list", path], env={}, cwd="/", capture_output=True, text=True)
    found = dict(re.findall(r"^\t(\S+) => (\S+) \(0x", run.stdout, re.MULTILINE))
    missing = re.findall(r"Error loading shared library ([^:]+):", run.stderr)
    return {name: where for name, where in found.items() if where != LOADER}, missing


def agree(path, host):
    walker = Walker(host)
    walk = walker.walk(path)
    process = start(Spot.both(walk.final), elf.read(walk.final, walk.stat, host), walker, ())
    found, missing = listed(path)
    assert {item.name: item.spot.view for item in process.objects[1:]} == found
    assert sorted(absent.want.name for absent in process.absent) == sorted(missing)
    return found


@real
def test_inheritance(musl_lab, host):
    musl_lab.library("deep/libb.so")
    musl_lab.library("deep/liba.so", "deep/libb.so")
    program = musl_lab.program("prog", "deep/liba.so", runpath="$ORIGIN/deep")
    assert agree(program, host)["libb.so"] == musl_lab.path("deep/libb.so")
    files = {entry.path for entry in resolve([Elf(program)], host) if entry.kind is Kind.FILE}
    assert files >= {program, musl_lab.path("deep/liba.so"), musl_lab.path("deep/libb.so"), os.path.realpath(LOADER)}


@real
@pytest.mark.parametrize("runpath", ["$ORIGIN/$LIB:$ORIGIN/d", "$ORIGINX/d", "::$ORIGIN/d:", "${ORIGIN}/d", "/nowhere"])
def test_tokens_and_empty_elements(musl_lab, host, runpath):
    musl_lab.library("d/libt.so")
    agree(musl_lab.program("prog", "d/libt.so", runpath=runpath), host)


@real
def test_breadth_first_and_the_name_by_which_it_was_found(musl_lab, host):
    musl_lab.library("d2/libd.so")
    musl_lab.library("d1/libd.so")
    musl_lab.library("d/liba.so", "d1/libd.so", runpath="$ORIGIN/../d1")
    agree(musl_lab.program("prog", "d/liba.so", "d2/libd.so", runpath="$ORIGIN/d:$ORIGIN/d2"), host)


@real
def test_a_program_through_a_symlink(musl_lab, host):
    musl_lab.library("real/liba.so")
    musl_lab.program("real/prog", "real/liba.so", runpath="$ORIGIN")
    (musl_lab.root / "prog").symlink_to("real/prog")
    assert musl_lab.path("real/liba.so") in resolve([Elf(musl_lab.path("prog"))], host).entries

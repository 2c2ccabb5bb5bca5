"""Our answer and the real loader's, on programs built to tell resolvers apart."""

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

LOADER = "/lib64/ld-linux-x86-64.so.2"
pytestmark = pytest.mark.skipif(not os.path.exists(LOADER), reason="needs the glibc of x86-64")


def cpu_levels():
    said = subprocess.run([LOADER, "--help"], capture_output=True, text=True, check=True).stdout
    return tuple(re.findall(r"^  (x86-64-v[234]) \(supported", said, re.MULTILINE))


def traced(path):
    """(name, path) of every object, as the real loader finds them; "not found" for a path where it does not. The program is never run."""
    run = subprocess.run([LOADER, os.path.realpath(path)], env={"LD_TRACE_LOADED_OBJECTS": "1"}, cwd="/", capture_output=True, text=True)
    found = set()
    for line in run.stdout.splitlines():
        match = re.fullmatch(r"\t(\S+)(?: => (not found|\S+))?(?: \(0x[0-9a-f]+\))?", line)
        name, where = match[1], match[2] or match[1]
        if not name.startswith("linux-vdso") and os.path.realpath(where) != os.path.realpath(LOADER):
            # A name without a slash and without "=>" is a file in the working directory, which is the root.
            found.add((name, os.path.join("/", where) if where != "not found" else where))
    return found, run.stderr


def ours(path, host):
    walker = Walker(host)
    walk = walker.walk(str(path))
    process = start(Spot.both(walk.final), elf.read(walk.final, walk.stat, host), walker, cpu_levels())
    found = {(item.name, item.spot.view) for item in process.objects[1:]}
    return found | {(absent.want.name, "not found") for absent in process.absent}, process


def agree(path, host):
    real, stderr = traced(path)
    assert ours(path, host)[0] == real, stderr
    return dict(real)


def test_c01_runpath_is_not_inherited(lab, host):
    lab.library("deep/libb.so")
    lab.library("deep/liba.so", "deep/libb.so")
    got = agree(lab.program("prog", "deep/liba.so", runpath="$ORIGIN/deep"), host)
    assert got["libb.so"] == "not found"


def test_c02_rpath_of_the_loader_counts(lab, host):
    lab.library("two/libc2.so")
    lab.library("one/libb2.so", "two/libc2.so")
    lab.library("one/liba2.so", "one/libb2.so", rpath="$ORIGIN:$ORIGIN/../two")
    got = agree(lab.program("prog", "one/liba2.so", rpath="$ORIGIN/one"), host)
    assert got["libc2.so"] == lab.path("one/../two/libc2.so")


@pytest.mark.parametrize("hiding", ["/nowhere", ""])
def test_c03_c26_a_runpath_hides_the_programs_rpath(lab, host, hiding):
    lab.library("d/libb.so")
    lab.library("d/liba.so", "d/libb.so", runpath=hiding)
    agree(lab.program("prog", "d/liba.so", rpath="$ORIGIN/d"), host)


def test_c04_soname_already_loaded(lab, host):
    lab.library("d/libreal.so", soname="libalias.so")
    lab.library("d/libuser.so", flags=["-L" + lab.path("d")])
    lab.patchelf(lab.path("d/libuser.so"), "--add-needed", "libalias.so")
    program = lab.program("prog", "d/libreal.so", "d/libuser.so", runpath="$ORIGIN/d")
    lab.patchelf(program, "--replace-needed", "libalias.so", "libreal.so")
    assert "libalias.so" not in agree(program, host)


def test_c06_breadth_first(lab, host):
    lab.library("d1/libd.so")
    lab.library("d2/libd.so")
    lab.library("d/liba.so", "d1/libd.so", runpath="$ORIGIN/../d1")
    got = agree(lab.program("prog", "d/liba.so", "d2/libd.so", runpath="$ORIGIN/d:$ORIGIN/d2"), host)
    assert got["libd.so"] == lab.path("d2/libd.so")


def test_c07_needed_with_a_slash_is_relative_to_the_working_directory(lab, host):
    lab.library("d/libs.so", soname="")
    program = lab.program("prog")
    lab.patchelf(program, "--add-needed", lab.path("d/libs.so").lstrip("/"))
    real, _ = traced(program)
    assert {(name, os.path.join("/", where)) for name, where in ours(program, host)[0]} == real


def test_c08_needed_with_origin(lab, host):
    lab.library("lib/libo.so")
    program = lab.program("bin/prog")
    lab.patchelf(program, "--add-needed", "$ORIGIN/../lib/libo.so")
    found = {where for _, where in ours(program, host)[0]}
    assert found == {where for _, where in traced(program)[0]}
    assert lab.path("bin/../lib/libo.so") in found


def test_c08_one_name_with_origin_means_two_files(lab, host):
    lab.library("one/libo.so")
    lab.library("two/libo.so", soname="other")
    library = lab.library("two/liba.so")
    program = lab.program("one/prog", "two/liba.so", runpath="$ORIGIN/../two")
    for path in (program, library):
        lab.patchelf(path, "--add-needed", "$ORIGIN/libo.so")
    found = {where for _, where in ours(program, host)[0]}
    assert found == {where for _, where in traced(program)[0]}
    assert {lab.path("one/libo.so"), lab.path("one/../two/libo.so")} <= found


def test_c09_origin_of_a_symlinked_library_is_where_it_was_found(lab, host):
    lab.library("real/libb.so")
    lab.library("real/liba.so", "real/libb.so", runpath="$ORIGIN")
    (lab.root / "links").mkdir()
    (lab.root / "links/liba.so").symlink_to("../real/liba.so")
    got = agree(lab.program("prog", "real/liba.so", runpath="$ORIGIN/links"), host)
    assert got["libb.so"] == "not found"


def test_c10_origin_of_a_symlinked_program_is_where_it_is(lab, host):
    lab.library("real/liba.so")
    lab.program("real/prog", "real/liba.so", runpath="$ORIGIN")
    (lab.root / "bin").mkdir()
    (lab.root / "bin/prog").symlink_to("../real/prog")
    assert agree(lab.path("bin/prog"), host)["liba.so"] == lab.path("real/liba.so")
    entries = resolve([Elf(lab.path("bin/prog"))], host).entries
    assert {lab.path("bin/prog"), lab.path("real/prog"), lab.path("real/liba.so")} <= set(entries)


def test_c11_hwcaps(lab, host):
    for level in ("", *(f"glibc-hwcaps/x86-64-v{number}/" for number in (2, 3, 4))):
        lab.library(f"d/{level}libh.so")
    agree(lab.program("prog", "d/libh.so", runpath="$ORIGIN/d"), host)


def test_legacy_subdirectories_of_glibc_before_2_37(lab, host):
    for name in ("tls/x86_64", "haswell/x86_64", "haswell", "x86_64", "tls", "avx512_1", ""):
        lab.library(f"d/{name}/libh.so")
    program = lab.program("prog", "d/libh.so", runpath="$ORIGIN/d")
    for name in ("tls/x86_64", "tls", "haswell/x86_64", "haswell", "avx512_1", "x86_64"):
        agree(program, host)
        os.unlink(lab.path(f"d/{name}/libh.so"))
    agree(program, host)


def test_c12_lib(lab, host):
    for name in ("lib/x86_64-linux-gnu", "lib64", "lib"):
        lab.library(f"{name}/libl.so")
    agree(lab.program("prog", "lib/libl.so", runpath="$ORIGIN/$LIB"), host)


def test_c13_platform(lab, host):
    for name in ("haswell", "xeon_phi", "x86_64"):
        lab.library(f"{name}/libp.so")
    agree(lab.program("prog", "haswell/libp.so", runpath="$ORIGIN/${PLATFORM}"), host)


def test_c14_nodeflib(lab, host):
    got = agree(lab.program("prog", flags=["-Wl,-z,nodefaultlib"]), host)
    assert got["libc.so.6"] == "not found"


@pytest.mark.parametrize("flag", ["-Wl,--filter=libf.so", "-Wl,--auxiliary=libf.so"])
@pytest.mark.parametrize("there", [True, False])
def test_c15_filters(lab, host, flag, there):
    if there:
        lab.library("d/libf.so")
    else:
        (lab.root / "d").mkdir()
    lab.library("d/libx.so", flags=[flag], runpath="$ORIGIN")
    program = lab.program("prog", "d/libx.so", runpath="$ORIGIN/d")
    real, _ = traced(program)
    if "auxiliary" in flag:  # the trace shows it as not found, though no program minds
        real.discard(("libf.so", "not found"))
    assert ours(program, host)[0] == real


def test_c17_another_class_is_skipped_and_junk_is_fatal(lab, host, small_elf):
    lab.library("good/libj.so")
    program = lab.program("prog", "good/libj.so", runpath="$ORIGIN/bad:$ORIGIN/good")
    bad = lab.root / "bad/libj.so"
    bad.parent.mkdir()
    bad.write_bytes(small_elf(bits=32, machine=3))
    assert agree(program, host)["libj.so"] == lab.path("good/libj.so")
    for other in (small_elf(machine=183), small_elf(little=False)):
        bad.write_bytes(other)
        assert agree(program, host)["libj.so"] == lab.path("good/libj.so")
    for junk in (b"INPUT(-lj)\n" * 20, b"", small_elf(osabi=9), small_elf(kind=1)):
        bad.write_bytes(junk)
        os.utime(bad, ns=(0, len(junk)))
        assert [absent.want.name for absent in ours(program, host)[1].absent if absent.fatal] == ["libj.so"]
        assert "bad/libj.so" in traced(program)[1], junk


def test_c18_empty_element_is_the_working_directory(lab, host):
    lab.library("d/libe.so")
    got = agree(lab.program("prog", "d/libe.so", runpath=":"), host)
    assert got["libe.so"] == "not found"


def test_c21_two_names_of_one_file_are_both_in_the_closure(lab, host):
    one = lab.library("d/libone.so", soname="")
    os.link(one, lab.path("d/libtwo.so"))
    program = lab.program("prog", runpath="$ORIGIN/d")
    for name in ("libone.so", "libtwo.so"):
        lab.patchelf(program, "--add-needed", name)
    real, _ = traced(program)
    assert ours(program, host)[0] == real
    assert {lab.path("d/libone.so"), lab.path("d/libtwo.so")} <= set(resolve([Elf(program)], host).entries)


def test_c23_a_token_must_end(lab, host):
    lab.library("d/libt.so")
    program = lab.program("prog", "d/libt.so", runpath="$ORIGINX/d:$ORIGIN_/d")
    assert agree(program, host)["libt.so"] == "not found"


def test_trailing_slashes_and_dots(lab, host):
    lab.library("d/libt.so")
    agree(lab.program("prog", "d/libt.so", runpath="$ORIGIN/./d///"), host)


def test_a_missing_version(lab, host):
    script = lab.root / "old.map"
    script.write_text("V_1 { global: f; };\n")
    lab.library("d/libv.so", flags=[f"-Wl,--version-script={script}"])
    source = lab.root / "uses.c"
    source.write_text("int f(void); int main(void){return f();}")
    program = lab.path("prog")
    subprocess.run(["gcc", "-o", program, str(source), lab.path("d/libv.so"), "-Wl,-rpath," + lab.path("d")], check=True)
    assert ours(program, host)[1].clashes == []
    script.write_text("V_2 { global: f; };\n")
    lab.library("d/libv.so", flags=[f"-Wl,--version-script={script}"])
    with pytest.raises(ResolveError, match=r"needs version V_1 of libv.so"):
        resolve([Elf(program)], host)
    run = subprocess.run([program], capture_output=True, text=True)
    assert "version `V_1' not found" in run.stderr


def test_static_programs_need_nothing(lab, host):
    for flags in (["-static"], ["-static-pie"]):
        path = lab.program("static" + flags[0], flags=flags)
        assert [entry.path for entry in resolve([Elf(path)], host) if entry.kind is Kind.FILE] == [path]


def test_the_closure_of_a_moved_program_is_enough(lab, host, tmp_path):
    lab.library("d/libm1.so")
    program = lab.program("prog", "d/libm1.so", runpath="$ORIGIN/d")
    entries = resolve([Elf(program, to="/opt/x/prog")], host).entries
    assert entries["/opt/x/d/libm1.so"].content.path == lab.path("d/libm1.so")

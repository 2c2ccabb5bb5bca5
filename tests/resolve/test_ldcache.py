"""The loader's cache: read as ldconfig(8) writes it, and written where an image would not find a library without it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess

import pytest

from pytest_nsjail.resolve import ldcache
from pytest_nsjail.resolve.closure import resolve
from pytest_nsjail.resolve.elf import Binary
from pytest_nsjail.resolve.ldcache import Cached
from pytest_nsjail.spec.dependency import Elf, File

LOADER = "/lib64/ld-linux-x86-64.so.2"
X86_64 = 0x303


def test_what_is_written_is_read():
    libraries = [("libb.so.1", X86_64, "/opt/libb.so.1"), ("liba.so.10", X86_64, "/opt/liba.so.10"), ("liba.so.9", 3, "/lib32/liba.so.9")]
    cache = ldcache.parse(ldcache.write(libraries))
    assert cache.libraries == {name: (Cached(flags, path),) for name, flags, path in libraries}
    assert ldcache.write(libraries) == ldcache.write(libraries[::-1])
    assert cache.find("libb.so.1", X86_64, ()) == "/opt/libb.so.1"
    assert cache.find("liba.so.9", X86_64, ()) is None


def test_levels_and_legacy_entries():
    names = b"x\0/3/x\0/2/x\0/l/x\0/x\0x86-64-v2\0x86-64-v3\0"
    base = 48 + 4 * 24
    at = {text: base + names.index(text + b"\0") for text in (b"x", b"/3/x", b"/2/x", b"/l/x", b"/x", b"x86-64-v2", b"x86-64-v3")}
    at[b"x"], at[b"/x"] = base, base + names.index(b"\0/x\0") + 1
    extension = base + len(names) + (-len(names) % 4)
    rows = [(b"/3/x", 1 << 62 | 1), (b"/2/x", 1 << 62 | 0), (b"/l/x", 1 << 5), (b"/x", 0)]
    table = b"".join(struct.pack("=lLLLQ", X86_64, at[b"x"], at[path], 0, hwcap) for path, hwcap in rows)
    header = b"glibc-ld.so.cache1.1" + struct.pack("=LLB3xL12x", 4, len(names), 2, extension)
    hwcaps = struct.pack("=LL", 0xEAA42174, 1) + struct.pack("=LLLL", 1, 0, extension + 24, 8) + struct.pack("=LL", at[b"x86-64-v2"], at[b"x86-64-v3"])
    data = header + table + names.ljust(extension - base, b"\0") + hwcaps
    for bytes_ in (data, b"ld.so-1.7.0\0" + struct.pack("=L", 1) + bytes(12) + bytes(4) + data):  # alone, and behind the old table
        cache = ldcache.parse(bytes_)
        assert cache.find("x", X86_64, ()) == "/x"
        assert cache.find("x", X86_64, ("x86-64-v2",)) == "/2/x"
        assert cache.find("x", X86_64, ("x86-64-v3", "x86-64-v2")) == "/3/x"


@pytest.mark.parametrize("data", [b"", b"junk", b"glibc-ld.so.cache1.1", b"ld.so-1.7.0\0", b"glibc-ld.so.cache1.1" + b"\xff" * 28])
def test_damaged_caches_are_empty(data):
    assert ldcache.parse(data).libraries == {}


def test_flags():
    assert ldcache.flags(Binary(64, True, 62, 0, 3)) == X86_64
    assert ldcache.flags(Binary(64, True, 183, 0, 3)) == 0xA03


@pytest.mark.skipif(not os.path.exists("/etc/ld.so.cache") or not os.path.exists("/sbin/ldconfig"), reason="needs a cache and ldconfig")
def test_this_hosts_cache_against_ldconfig():
    with open("/etc/ld.so.cache", "rb") as file:
        cache = ldcache.parse(file.read())
    said = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    paths = [line.partition(" => ")[2] for line in said.splitlines() if " => " in line and "hwcap" not in line]
    assert sorted(paths) == sorted(cached.path for libraries in cache.libraries.values() for cached in libraries if not cached.level)


def hidden(memory, glibc, small_elf, **more):
    """A program whose library only the cache knows, because /opt/secret is in ld.so.conf alone."""
    return memory({
        **glibc, "/app": small_elf(["libs.so.1", "libc.so.6"], interp=LOADER), "/opt/secret/libs.so.1": small_elf(),
        "/etc/ld.so.cache": ldcache.write([("libs.so.1", X86_64, "/opt/secret/libs.so.1"), ("libc.so.6", X86_64, "/usr/lib/libc.so.6")]), **more,
    })  # fmt: skip


def test_a_cache_for_what_only_the_cache_knows(memory, glibc, small_elf):
    entry = resolve([Elf("/app")], hidden(memory, glibc, small_elf)).entries["/etc/ld.so.cache"]
    assert ldcache.parse(entry.content).libraries == {"libs.so.1": (Cached(X86_64, "/opt/secret/libs.so.1"),)}
    assert entry.wanted_by == ("made for libs.so.1, which /app finds through ld.so.cache only", "Elf('/app')")


def test_one_cache_for_several_programs(memory, glibc, small_elf):
    view = hidden(memory, glibc, small_elf, **{"/other": small_elf(["libs.so.1"], interp=LOADER)})
    entry = resolve([Elf("/app"), Elf("/other")], view).entries["/etc/ld.so.cache"]
    assert {"Elf('/app')", "Elf('/other')"} <= set(entry.wanted_by)


def test_no_cache_where_nothing_needs_it(memory, glibc, small_elf):
    view = hidden(memory, glibc, small_elf)
    assert "/etc/ld.so.cache" not in resolve([Elf("/usr/bin/tool")], view).entries


def test_a_declared_cache_is_enough(memory, glibc, small_elf):
    view = hidden(memory, glibc, small_elf)
    assert resolve([Elf("/app"), File("/etc/ld.so.cache")], view).entries["/etc/ld.so.cache"].wanted_by == ("File('/etc/ld.so.cache')",)


@pytest.mark.skipif(not shutil.which("gcc") or not os.path.exists(LOADER), reason="needs gcc and the glibc of x86-64")
def test_the_real_loader_reads_what_we_write(lab):
    """The loader of this host, its cache path patched to one of the same length, finds a library by our cache."""
    library = lab.library("hidden/libsecret9.so")
    lab.library("hidden/libsecret10.so")
    program = lab.program("prog", "hidden/libsecret9.so", "hidden/libsecret10.so")
    names = [(f"libsecret{number}.so", X86_64, f"{os.path.dirname(library)}/libsecret{number}.so") for number in (9, 10)]
    fillers = [(f"lib{letter}.so.{number}", X86_64, f"/nowhere/{letter}{number}") for letter in "atz" for number in (1, 2, 9, 10, 11, 100)]
    lab.root.joinpath("c").write_bytes(ldcache.write(names + fillers))
    with open(os.path.realpath(LOADER), "rb") as file:
        patched = file.read().replace(b"\0/etc/ld.so.cache\0", b"\0c" + bytes(16))
    loader = lab.root / "ld.so"
    loader.write_bytes(patched)
    loader.chmod(0o755)
    run = subprocess.run([str(loader), "--list", program], cwd=lab.root, env={}, capture_output=True, text=True)
    assert f"libsecret9.so => {names[0][2]}" in run.stdout, run.stderr
    assert f"libsecret10.so => {names[1][2]}" in run.stdout

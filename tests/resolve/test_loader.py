"""glibc's rules on files in memory: what no compiler here builds, and what must not hang on this host."""

from __future__ import annotations

import pytest

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.resolve.closure import resolve
from pytest_nsjail.resolve.elf import Binary
from pytest_nsjail.resolve.rtld import facts
from pytest_nsjail.spec.dependency import Elf

LOADER = "/lib64/ld-linux-x86-64.so.2"
X86_64 = Binary(64, True, 62, 0, 3)


@pytest.fixture
def taken(memory, glibc, small_elf):
    """Which files of ``libraries`` the program's closure holds."""

    def taken(libraries, needed=("libx.so",), **program):
        view = memory({**glibc, "/app/bin/prog": small_elf(needed, interp=LOADER, **program), **libraries})
        return sorted(set(resolve([Elf("/app/bin/prog")], view, cpu_levels=("x86-64-v3",)).entries) & set(libraries))

    return taken


def test_tokens(taken, small_elf):
    x = small_elf()
    assert taken({"/app/lib/libx.so": x}, runpath="$ORIGIN/../lib") == ["/app/lib/libx.so"]
    assert taken({"/app/lib/libx.so": x}, runpath="${ORIGIN}/../lib") == ["/app/lib/libx.so"]
    assert taken({"/lib/libx.so": x, "/app/lib/libx.so": x}, runpath="/app/$LIB") == ["/app/lib/libx.so"]
    assert taken({"/app/haswell/libx.so": x}, runpath="/app/$PLATFORM") == ["/app/haswell/libx.so"]
    assert taken({"/app/bin$ORIGINX/libx.so": x}, runpath="/app/bin$ORIGINX") == ["/app/bin$ORIGINX/libx.so"]
    assert taken({"/app/bin/sub/libx.so": x}, needed=["$ORIGIN/sub/libx.so"]) == ["/app/bin/sub/libx.so"]


def test_an_empty_element_is_the_working_directory(taken, small_elf):
    assert taken({"/libx.so": small_elf()}, runpath="/nowhere:") == ["/libx.so"]


def test_an_empty_runpath_is_none_but_hides_rpath(taken, small_elf):
    with pytest.raises(ResolveError, match=r"libx.so, which /app/bin/prog needs \(NEEDED\), is not there"):
        taken({"/own/libx.so": small_elf(), "/libx.so": small_elf()}, runpath="", rpath="/own")


def test_another_architecture_is_passed_over(taken, small_elf):
    files = {"/a/libx.so": small_elf(bits=32, machine=3), "/b/libx.so": small_elf(machine=183, little=False), "/c/libx.so": small_elf()}
    assert taken(files, runpath="/a:/b:/c") == ["/c/libx.so"]


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"INPUT(libx.so.1)", "it is no ELF file"), (b"", "it is empty"), (b"\x7fELF", "cut short"), (None, "is a directory"),
        ({"osabi": 9}, "OS ABI 9"), ({"kind": 1}, "object file"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_ends_the_search(taken, small_elf, first, said):
    with pytest.raises(ResolveError, match=f"libx.so, which /app/bin/prog needs .*{said}"):
        taken({"/a/libx.so": small_elf(**first) if isinstance(first, dict) else first, "/b/libx.so": small_elf()}, runpath="/a:/b")


def test_filters_are_loaded_and_auxiliaries_where_they_are_there(taken, small_elf):
    assert taken({"/usr/lib/libx.so": small_elf()}, needed=(), filters=["libx.so"], auxiliaries=["visibility=hidden"]) == ["/usr/lib/libx.so"]
    assert taken({"/usr/lib/libx.so": small_elf()}, needed=(), auxiliaries=["libx.so"]) == ["/usr/lib/libx.so"]
    with pytest.raises(ResolveError, match=r"libgone.so, which /app/bin/prog needs \(FILTER\)"):
        taken({}, needed=(), filters=["libgone.so"])


def test_nodeflib(taken, small_elf):
    with pytest.raises(ResolveError, match=r"libx\.so"):
        taken({"/usr/lib/libx.so": small_elf()}, nodeflib=True)
    assert taken({"/usr/lib/libx.so": small_elf(), "/own/libx.so": small_elf()}, nodeflib=True, runpath="/own") == ["/own/libx.so"]


def test_a_library_declared_alone(memory, glibc, small_elf):
    view = memory({**glibc, "/opt/libown.so": small_elf(["libc.so.6"])})
    assert "/usr/lib/libc.so.6" in resolve([Elf("/opt/libown.so")], view).entries


def test_facts_of_loaders():
    debian = b"\0/lib/x86_64-linux-gnu/\0/usr/lib/x86_64-linux-gnu/\0/lib/\0/usr/lib/\0\0PLATFORM\0LIB\0lib/x86_64-linux-gnu\0\0/etc/ld.so.cache\0"
    assert facts(debian, X86_64).directories == ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib")
    assert facts(debian, X86_64).lib == "lib/x86_64-linux-gnu"
    fedora = facts(b"\0/lib64/\0/usr/lib64/\0", X86_64)
    assert (fedora.directories, fedora.lib, fedora.cache) == (("/lib64", "/usr/lib64"), "lib64", "/etc/ld.so.cache")
    nix = facts(b"\0/nix/store/abc-glibc-2.40/lib/\0\0/nix/store/abc-glibc-2.40/etc/ld.so.cache\0", X86_64)
    assert (nix.directories, nix.lib, nix.cache) == (("/nix/store/abc-glibc-2.40/lib",), "lib", "/nix/store/abc-glibc-2.40/etc/ld.so.cache")
    assert "/usr/lib" in facts(b"", X86_64).directories

"""The rules of the closure, on trees in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.resolve.closure import resolve
from pytest_nsjail.resolve.entry import Content
from pytest_nsjail.resolve.program import program
from pytest_nsjail.spec.dependency import Copy, Directory, Elf, File, Groups, Script, Symlink, Text, Tree, Users

LOADER = "/lib64/ld-linux-x86-64.so.2"


def shape(closure):
    return {entry.path: entry.target if entry.kind is Kind.SYMLINK else entry.kind.value for entry in closure}


def test_a_program_with_all_it_needs(memory, glibc):
    closure = resolve([Elf("/bin/tool")], memory(glibc))
    assert shape(closure) == {
        "/bin": "usr/bin", "/lib": "usr/lib", "/lib64": "usr/lib64", "/usr": "directory", "/usr/bin": "directory", "/usr/bin/tool": "file",
        "/usr/lib": "directory", "/usr/lib/libc.so.6": "file", "/usr/lib64": "directory", "/usr/lib64/ld-linux-x86-64.so.2": "file",
    }  # fmt: skip
    entries = closure.entries
    assert entries["/usr/bin/tool"].wanted_by == ("Elf('/bin/tool')",)
    assert entries["/usr/lib/libc.so.6"].wanted_by == ("NEEDED by /usr/bin/tool (found in a system directory)", "Elf('/bin/tool')")
    assert entries["/usr/lib64/ld-linux-x86-64.so.2"].wanted_by == ("ELF interpreter of /usr/bin/tool", "Elf('/bin/tool')")
    assert entries["/bin"].wanted_by == ("symlink on the way to /bin/tool", "Elf('/bin/tool')")
    assert entries["/usr"].wanted_by == ("directory of /bin/tool", "Elf('/bin/tool')")


def test_attributes(memory):
    view = memory({
        "/suid": (b"x", 0o4755), "/tmp": (None, 0o1777), "/tmp/f": "1", "/odd": (None, 0o2775), "/odd/f": "1", "/private": (None, 0o700), "/private/f": "1",
    })  # fmt: skip
    entries = resolve([File("/suid"), File("/tmp/f"), File("/odd/f"), File("/private/f"), Text("/new/text", "x")], view).entries
    modes = {path: entry.mode for path, entry in entries.items()}
    assert modes == {
        "/suid": 0o755, "/tmp": 0o1777, "/tmp/f": 0o644, "/odd": 0o775, "/odd/f": 0o644, "/private": 0o700, "/private/f": 0o644,
        "/new": 0o755, "/new/text": 0o644,
    }  # fmt: skip
    assert entries["/suid"].mtime_ns == 5
    assert entries["/new/text"].mtime_ns == 0


def test_to_moves_the_program_alone(memory, glibc):
    closure = resolve([Elf("/bin/tool", to="/lib/app")], memory(glibc))
    assert shape(closure)["/usr/lib/app"] == "file"  # through the image's own /lib
    assert "/usr/bin/tool" not in closure.entries
    assert "/bin" not in closure.entries
    assert closure.entries["/usr/lib/app"].wanted_by == ("Elf('/bin/tool', to='/lib/app')",)


def test_a_moved_programs_origin_moves_its_libraries(memory, glibc, small_elf):
    view = memory({
        **glibc,
        "/build/bin/app": small_elf(["liba.so", "libc.so.6"], interp=LOADER, runpath="$ORIGIN/../lib"),
        "/build/lib/liba.so": "-> liba.so.1",
        "/build/lib/liba.so.1": small_elf(["libb.so"], runpath="$ORIGIN"),
        "/build/lib/libb.so": small_elf(),
    })  # fmt: skip
    closure = resolve([Elf("/build/bin/app", to="/opt/app/bin/app")], view)
    assert {path for path in closure.entries if path.startswith(("/opt", "/build"))} == {
        "/opt", "/opt/app", "/opt/app/bin", "/opt/app/bin/app", "/opt/app/lib", "/opt/app/lib/liba.so", "/opt/app/lib/libb.so",
    }  # fmt: skip


def test_a_library_the_user_brings(memory, glibc, small_elf):
    view = memory({**glibc, "/bin/app": small_elf(["libown.so"], interp=LOADER), "/src/libown.so": small_elf(["libc.so.6"])})
    view.nodes["/usr/bin/app"] = view.nodes.pop("/bin/app")
    closure = resolve([Elf("/usr/bin/app"), Elf("/src/libown.so", to="/usr/lib/libown.so")], view)
    assert shape(closure)["/usr/lib/libown.so"] == "file"


def test_a_missing_library(memory, glibc, small_elf):
    view = memory({**glibc, "/app": small_elf(["liba.so"], interp=LOADER, runpath="/opt/lib"), "/opt/lib/liba.so": small_elf(["libgone.so.3"])})
    with pytest.raises(ResolveError) as caught:
        resolve([Elf("/app")], view)
    assert str(caught.value) == (
        "Elf('/app'): libgone.so.3, which /opt/lib/liba.so needs (NEEDED), is not there; looked in /lib, /usr/lib. Install the package that holds "
        "libgone.so.3, or say where it is: Elf('/where/it/is/libgone.so.3', to='/usr/lib/libgone.so.3')."
    )


def test_all_that_is_missing_is_said_at_once(memory, glibc, small_elf):
    view = memory({**glibc, "/app": small_elf(["liba.so", "libb.so", "libc.so.6"], interp=LOADER)})
    with pytest.raises(ResolveError, match=r"liba\.so, libb\.so, which /app needs, are not there; looked in /lib, /usr/lib"):
        resolve([Elf("/app")], view)


def test_what_a_moved_library_needs_moves_with_it(memory, glibc, small_elf):
    view = memory({
        **glibc, "/app/prog": small_elf(["liba.so"], interp=LOADER, runpath="$ORIGIN"), "/app/liba.so": "-> real.so",
        "/app/real.so": small_elf(["libb.so"], rpath="$ORIGIN/sub"), "/app/sub/libb.so": small_elf(),
    })  # fmt: skip
    assert {"/opt/prog", "/opt/liba.so", "/opt/sub/libb.so"} <= set(resolve([Elf("/app/prog", to="/opt/prog")], view).entries)
    with pytest.raises(ResolveError, match=r"wants /opt/liba\.so"):
        resolve([Elf("/app/prog", to="/opt/prog"), Text("/opt/liba.so", "other")], view)


def test_a_missing_interpreter_may_be_declared(memory, small_elf):
    view = memory({"/app": small_elf(interp="/ld/own.so"), "/build/own.so": small_elf(), "/odd": small_elf(interp="/build")})
    with pytest.raises(ResolveError, match="the ELF interpreter /build of /odd is not on this host"):
        resolve([Elf("/odd")], view)
    with pytest.raises(ResolveError, match=r"the ELF interpreter /ld/own\.so of /app is not on this host"):
        resolve([Elf("/app")], view)
    assert "/ld/own.so" in resolve([Elf("/app"), File("/build/own.so", to="/ld/own.so")], view).entries


def test_a_version_that_the_library_lacks(memory, glibc, small_elf):
    view = memory({**glibc, "/app": small_elf(["libc.so.6"], interp=LOADER, requires={"libc.so.6": ["weak GLIBC_9", "GLIBC_2.38"]})})
    said = "Elf('/app'): /app needs version GLIBC_2.38 of libc.so.6, and /lib/libc.so.6 does not define it, whose newest is GLIBC_2.36"
    with pytest.raises(ResolveError, match=re.escape(said)):
        resolve([Elf("/app")], view)


def test_a_library_without_versions_satisfies_all(memory, glibc, small_elf):
    view = memory({**glibc, "/app": small_elf(["libv.so"], interp=LOADER, requires={"libv.so": ["V_1"]}), "/usr/lib/libv.so": small_elf()})
    assert "/usr/lib/libv.so" in resolve([Elf("/app")], view).entries


@pytest.mark.parametrize(
    ("dependency", "said"),
    [
        (Elf("/gone"), "there is no /gone on this host"),
        (Elf("/dangling"), "the symlink /dangling -> nowhere leads to /nowhere, which is not there"),
        (Elf("/loop"), "Elf('/loop'): /loop leads through more than 40 symlinks"),
        (Elf("/usr"), "/usr is a directory. Write Tree('/usr')"),
        (Elf("/script"), "/script is a script. Write Script('/script')."),
        (Elf("/text"), "/text is no program: it is no ELF file. Write File('/text')"),
        (Elf("/empty"), "/empty is no program: it is empty"),
        (Elf("/object.o"), "is an ELF object file or core dump"),
        (Script("/usr/bin/tool"), "/usr/bin/tool is an ELF program. Write Elf('/usr/bin/tool')."),
        (Script("/text"), "/text does not start with '#!'"),
        (Script("/usr"), "Write Tree('/usr')"),
        (Script("/crlf"), "ends in CR LF"),
        (Script("/lone"), "its first line is '#!' without an interpreter"),
        (Script("/gone_interpreter"), "the interpreter /no/sh of /gone_interpreter is not on this host"),
        (Script("/env_gone"), "env runs 'nothere' for /env_gone, and it is not in /usr/local/sbin"),
        (Script("/env_split"), "Write #!/usr/bin/env -S sh -e"),
        (File("/usr"), "/usr is a directory. Write Tree('/usr')"),
        (File("/device"), "is a device, and an image holds none. Give the run devices=['/device']."),
        (File("/socket"), "is a socket, and an image holds none. Give the run mounts=[Bind('/socket', '/socket')]."),
        (File("/secret"), "/secret may not be read: Permission denied"),
        (Tree("/text"), "/text is a file. Write File('/text')."),
        (Tree("/gone"), "there is no /gone"),
        (Tree("/"), "the whole root is too much"),
    ],
    ids=repr,
)
def test_bad_sources(memory, glibc, small_elf, dependency, said):
    view = memory({
        **glibc, "/dangling": "-> nowhere", "/loop": "-> loop", "/script": b"#!/bin/sh\n", "/text": "hello", "/empty": b"", "/object.o": small_elf(kind=1),
        "/crlf": b"#!/bin/sh\r\n", "/lone": b"#! \n", "/gone_interpreter": b"#!/no/sh\n", "/env_gone": b"#!/usr/bin/env nothere\n",
        "/env_split": b"#!/usr/bin/env sh -e\n", "/device": Kind.DEVICE, "/socket": Kind.SOCKET, "/secret": ("x", 0),
    })  # fmt: skip
    with pytest.raises(ResolveError) as caught:
        resolve([dependency], view)
    assert said in str(caught.value)
    assert repr(dependency) in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (Text("/a", "1"), Text("/a", "2"), "wants /a with 1 bytes of its own, and Text('/a', '2') wants it with 1 bytes of its own"),
        (Text("/a", "1"), Text("/a", "1", mode=0o600), "with mode 0o644"),
        (Text("/a", "1"), Directory("/a"), "as a file, and Directory('/a') wants it as a directory"),
        (Text("/a", "1"), Text("/a/b", "1"), "wants /a as a file, and Text('/a/b', '1') (directory of /a/b) wants it as a directory"),
        (Symlink("/a", "b"), Symlink("/a", "c"), "as a symlink to b, and Symlink('/a', 'c') wants it as one to c"),
        (Symlink("/a", "b"), Text("/a", "1"), "as a symlink, and Text('/a', '1') wants it as a file"),
        (Symlink("/a", "b"), Directory("/a"), "as a symlink, and Directory('/a') wants it as a directory"),
        (Directory("/a", mode=0o700), Directory("/a"), "with mode 0o700"),
        (File("/x", to="/a"), File("/y", to="/a"), "with the content of /x, and File('/y', to='/a') wants it with the content of /y"),
        (File("/x", mode=0o600), File("/x", mode=0o640), "with mode 0o600"),
        (Users(one=1), Users(one=2), "the user one is 1 in Users(one=1) and 2 in Users(one=2)"),
        (Users(one=1), Groups(one=2), "the group one is 1 in Users(one=1) and 2 in Groups(one=2)"),
        (Users(one=1), Text("/etc/passwd", "root"), "/etc/passwd"),
    ],
    ids=repr,
)
def test_quarrels_name_both(memory, one, other, said):
    view = memory({"/x": "x", "/y": "y"})
    with pytest.raises(ResolveError) as caught:
        resolve([one, other], view)
    assert said in str(caught.value)
    with pytest.raises(ResolveError) as caught:
        resolve([other, one], view)
    assert repr(one) in str(caught.value)
    assert repr(other) in str(caught.value)


def test_what_agrees_is_merged(memory):
    view = memory({"/x": "same", "/y": "same", "/dir": (None, 0o700), "/dir/z": "z"})
    closure = resolve([File("/x", to="/a"), File("/y", to="/a"), Text("/a", "same"), File("/dir/z"), Directory("/dir", mode=0o711)], view)
    assert closure.entries["/a"].wanted_by == ("File('/x', to='/a')", "File('/y', to='/a')", "Text('/a', 'same')")
    assert closure.entries["/a"].content == Content(view, "/x")
    assert closure.entries["/dir"].mode == 0o711


def test_a_written_mode_outweighs_the_sources(memory):
    view = memory({"/x": "same"})
    assert resolve([File("/x"), File("/x", mode=0o600)], view).entries["/x"].mode == 0o600


def test_an_implicit_directory_goes_through_a_symlink_declared_later(memory, glibc):
    view = memory(glibc)
    closure = resolve([Text("/lib/own", "1"), Elf("/usr/bin/tool"), Symlink("/data", "/mnt/data"), Text("/data/f", "1")], view)
    assert shape(closure)["/usr/lib/own"] == "file"
    assert shape(closure)["/lib"] == "usr/lib"
    assert shape(closure)["/mnt/data/f"] == "file"


def test_symlinks_through_symlinks(memory):
    closure = resolve([Symlink("/a/b", "/c"), Symlink("/a", "/real"), Text("/a/b/f", "1")], memory({}))
    assert shape(closure) == {"/a": "/real", "/c": "directory", "/c/f": "file", "/real": "directory", "/real/b": "/c"}


def test_a_destination_that_leaves_the_root(memory):
    with pytest.raises(ResolveError, match=re.escape("Text('/out/f', '1'): the destination /out leaves the root through '..'")):
        resolve([Symlink("/out", "../../up"), Text("/out/f", "1")], memory({}))


def test_a_destination_in_a_loop(memory):
    with pytest.raises(ResolveError, match="more than 40 symlinks"):
        resolve([Symlink("/a", "/b"), Symlink("/b", "/a"), Text("/a/f", "1")], memory({}))


def test_tree(memory):
    view = memory({
        "/here": "-> /there", "/there/a/b.txt": "1", "/there/a/link": "-> /outside", "/there/a/x.pyc": "no",
        "/there/.git/HEAD": "no", "/there/a/.git/HEAD": "no",
        "/there/socket": Kind.SOCKET, "/there/fifo": Kind.FIFO, "/there/dev": Kind.DEVICE, "/there/empty": (None, 0o700), "/there/a/deep/no.txt": "no",
    })  # fmt: skip
    closure = resolve([Tree("/here", to="/app", exclude=("*.pyc", ".git", "a/deep/*"))], view)
    assert shape(closure) == {
        "/app": "directory", "/app/a": "directory", "/app/a/b.txt": "file", "/app/a/link": "/outside", "/app/a/deep": "directory", "/app/empty": "directory",
    }  # fmt: skip
    assert closure.entries["/app/a/b.txt"].wanted_by == ("in /there", f"{Tree('/here', to='/app', exclude=('*.pyc', '.git', 'a/deep/*'))!r}")
    assert closure.entries["/app/empty"].mode == 0o700
    own = resolve([Tree("/here")], view)
    assert shape(own)["/here"] == "/there"
    assert shape(own)["/there/a/b.txt"] == "file"


def test_a_tree_with_an_unreadable_directory(memory):
    view = memory({"/there/closed/f": "1"})
    listdir = view.listdir

    def refused(path):
        if path == "/there/closed":
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    view.listdir = refused
    with pytest.raises(ResolveError, match=r"Tree\('/there'\): /there/closed may not be read: Permission denied"):
        resolve([Tree("/there")], view)


def test_a_tree_goes_through_a_symlink_at_its_top_only(memory, glibc):
    view = memory({**glibc, "/own/lib/x": "1"})
    closure = resolve([Elf("/usr/bin/tool"), Tree("/own/lib", to="/lib")], view)
    assert shape(closure)["/usr/lib/x"] == "file"
    with pytest.raises(ResolveError, match=r"wants /lib as a"):
        resolve([Elf("/usr/bin/tool"), Tree("/own", to="/own"), Directory("/lib")], view)


@dataclass(frozen=True)
class Stage:
    view: FileView

    def __repr__(self) -> str:
        return "stage('build')"


def test_copy(memory):
    stage = Stage(memory({"/out": "-> real", "/real/bin/app": b"x", "/real/bin/link": "-> app", "/one": ("1", 0o4755)}))
    closure = resolve([Copy(stage, "/out", to="/app"), Copy(stage, "/one")], memory({}))
    assert shape(closure) == {"/app": "directory", "/app/bin": "directory", "/app/bin/app": "file", "/app/bin/link": "app", "/one": "file"}
    assert closure.entries["/app/bin/app"].content == Content(stage.view, "/real/bin/app")
    assert closure.entries["/one"].mode == 0o755
    assert closure.entries["/one"].mtime_ns == 0
    with pytest.raises(ResolveError, match=re.escape("there is no /gone in the stage stage('build')")):
        resolve([Copy(stage, "/gone")], memory({}))


def test_accounts_become_files(memory):
    closure = resolve([Users(nodeuser=500), Groups(wheel=10), Users(nodeuser=500, other=501)], memory({}))
    assert closure.entries["/etc/passwd"].content == b"nodeuser:x:500:500::/:/bin/sh\nother:x:501:501::/:/bin/sh\n"
    assert closure.entries["/etc/group"].content == b"wheel:x:10:\nnodeuser:x:500:\nother:x:501:\n"
    assert closure.entries["/etc/passwd"].wanted_by == ("Users(nodeuser=500)", "Users(nodeuser=500, other=501)")
    assert "/etc/passwd" not in resolve([Groups(wheel=10)], memory({})).entries


def test_script_chain(memory, glibc):
    view = memory({
        **glibc, "/s1": b"#! /s2 arg\n", "/s2": b"#!/bin/sh\n", "/e": b"#!/usr/bin/env -S -i A=1 tool --flag\n", "/usr/local/bin/tool": b"#!/bin/sh\n",
    })  # fmt: skip
    closure = resolve([Script("/s1", to="/app/s")], view)
    assert {"/app/s", "/s2", "/usr/bin/sh", "/usr/lib/libc.so.6"} <= set(closure.entries)
    assert closure.entries["/usr/bin/sh"].wanted_by[:3] == ("interpreter of /s2", "interpreter of /app/s", "Script('/s1', to='/app/s')")
    closure = resolve([Script("/e")], view)
    assert {"/usr/bin/env", "/usr/local/bin/tool", "/usr/bin/sh"} <= set(closure.entries)
    assert closure.entries["/usr/local/bin/tool"].wanted_by == ("run by env for /e", "Script('/e')")


def test_five_scripts_in_a_row_and_no_sixth(memory, glibc):
    view = memory({**glibc, **{f"/s{number}": f"#!/s{number + 1}\n".encode() for number in range(6)}, "/s6": b"#!/bin/sh\n"})
    assert "/s2" in resolve([Script("/s2")], view).entries
    with pytest.raises(ResolveError, match="more than 5 interpreters in a row are scripts"):
        resolve([Script("/s1")], view)


def test_an_interpreter_that_another_declaration_brings(memory, glibc):
    view = memory({**glibc, "/s": b"#!/opt/tool\n"})
    assert "/opt/tool" in resolve([Script("/s"), File("/usr/bin/tool", to="/opt/tool")], view).entries


def test_program(memory, glibc):
    view = memory({**glibc, "/link": "-> /usr/bin/tool", "/s": b"#!/bin/sh\n", "/t": b"text", "/plain": "#!/bin/sh\n", "/none": b""})
    assert program("/link", view) == Elf("/link")
    assert program("/s", view) == Script("/s")
    for path, said in (("/t", "neither an ELF"), ("/plain", "not executable"), ("/none", "empty"), ("/usr", "is a directory"), ("/gone", "there is no /gone")):
        with pytest.raises(ResolveError, match=said):
            program(path, view)


def test_two_names_of_one_inode_stay_two_entries(memory, glibc, small_elf):
    view = memory({**glibc, "/app": small_elf(["liba.so", "libb.so"], interp=LOADER), "/usr/lib/liba.so": small_elf(), "/usr/lib/libb.so": "-> liba.so"})
    entries = resolve([Elf("/app")], view).entries
    assert entries["/usr/lib/liba.so"].kind is Kind.FILE
    assert entries["/usr/lib/libb.so"].target == "liba.so"


def test_only_what_this_cpu_takes(memory, glibc, small_elf):
    library = small_elf(soname="libx.so")
    view = memory({
        **glibc, "/app": small_elf(["libx.so"], interp=LOADER), "/usr/lib/libx.so": library,
        "/usr/lib/glibc-hwcaps/x86-64-v3/libx.so": library, "/usr/lib/glibc-hwcaps/x86-64-v2/libx.so": library,
    })  # fmt: skip
    got = lambda *levels: {path for path in resolve([Elf("/app")], view, cpu_levels=levels).entries if path.endswith("libx.so")}  # noqa: E731
    assert got() == {"/usr/lib/libx.so"}
    assert got("x86-64-v3", "x86-64-v2") == {"/usr/lib/glibc-hwcaps/x86-64-v3/libx.so"}
    assert got("x86-64-v2") == {"/usr/lib/glibc-hwcaps/x86-64-v2/libx.so"}

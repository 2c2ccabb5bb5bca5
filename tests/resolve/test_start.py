"""Why a program could not start, in words."""

from __future__ import annotations

import errno

import pytest

from pytest_nsjail.resolve.start import explain

LOADER = "/lib64/ld-linux-x86-64.so.2"
PATH = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture
def said(memory, glibc):
    def said(argv0, files, number, *, stderr="", base=glibc, path=PATH):
        error = explain(argv0, memory({**base, **files}), path=path, errno=number, stderr=stderr, architecture="x86_64")
        assert error is None or error.errno == number
        return None if error is None else str(error)

    return said


def test_a_file_without_its_loader_and_libraries(said, small_elf):
    program = small_elf(["libssl.so.3", "libc.so.6"], interp=LOADER)
    assert said("node", {"/usr/bin/node": program}, errno.ENOENT, base={}) == (
        "/usr/bin/node cannot start: it is dynamically linked, and its ELF interpreter /lib64/ld-linux-x86-64.so.2 is not in the jail; also missing: "
        "libssl.so.3, libc.so.6, which /usr/bin/node needs, are not there; looked in /lib/x86_64-linux-gnu, /usr/lib/x86_64-linux-gnu, /lib64, "
        "/usr/lib64, /lib, /usr/lib. Declare Elf('/usr/bin/node') in place of File: it brings the loader and every library."
    )


def test_the_name_of_who_needs_a_library(said, small_elf):
    files = {"/app": small_elf(["liba.so"], interp=LOADER), "/usr/lib/liba.so": small_elf(["libgone.so"])}
    text = "/app: error while loading shared libraries: libgone.so: cannot open shared object file: No such file or directory"
    for stderr in (text, ""):
        words = said("/app", files, None, stderr=stderr)
        assert "libgone.so, which /lib/liba.so needs (NEEDED), is not there; looked in /lib, /usr/lib. Declare Elf('/app')" in words
    assert said("/app", files, None, stderr="something else went wrong") is None  # with LD_LIBRARY_PATH it started


def test_a_program_that_started_and_exited_with_127(said):
    assert said("/usr/bin/tool", {}, None) is None
    assert said("tool", {}, None, stderr="whatever") is None
    assert said("gone", {}, None) is None


def test_loader_text_that_the_files_do_not_explain(said):
    text = "/usr/bin/tool: symbol lookup error: /usr/bin/tool: undefined symbol: frobnicate"
    assert f"its loader gave up: {text}" in said("/usr/bin/tool", {}, None, stderr=text)


def test_versions(said, small_elf):
    files = {"/app": small_elf(["libc.so.6"], interp=LOADER, requires={"libc.so.6": ["GLIBC_2.38"]})}
    assert "needs version GLIBC_2.38 of libc.so.6, and /lib/libc.so.6 does not define it, whose newest is GLIBC_2.36" in said("/app", files, None)


@pytest.mark.parametrize(
    ("files", "number", "words"),
    [
        ({}, errno.ENOENT, "there is no /p in the jail. Declare it: Elf('/p') or Script('/p')."),
        ({"/p": "-> /gone"}, errno.ENOENT, "the symlink /p -> /gone leads to /gone, which is not there"),
        ({"/p": "-> p"}, errno.ELOOP, "/p leads through more than 40 symlinks"),
        ({"/p": None}, errno.EACCES, "it is a directory"),
        ({"/p": "#!/bin/sh\n"}, errno.EACCES, "it is not executable: its mode is 0o644. Declare it with a mode: File('/its/source', to='/p', mode=0o755)."),
        ({"/p": b""}, errno.ENOEXEC, "it is empty"),
        ({"/p": b"echo hello\n"}, errno.ENOEXEC, "it does not start with '#!'"),
        ({"/p": b"\xef\xbb\xbf#!/bin/sh\n"}, errno.ENOEXEC, "byte order mark"),
        ({"/p": b"#!\n"}, errno.EACCES, "'#!' without an interpreter"),
        ({"/p": b"#!/" + b"x" * 300 + b"\n"}, errno.ENOEXEC, "longer than 255 bytes"),
        ({"/p": b"#!/bin/sh\r\n"}, errno.ENOENT, "ends in CR LF, so that '/bin/sh' is looked for with a '\\r' at its end"),
        ({"/p": b"#!/opt/perl\n"}, errno.ENOENT, "its interpreter /opt/perl is not in the jail. Declare Script('/p') in place of File"),
        ({"/p": b"#!/opt/x\n", "/opt/x": "text"}, errno.EACCES, "its interpreter /opt/x is not executable"),
        ({"/p": b"#!/opt\n", "/opt": None}, errno.EACCES, "its interpreter /opt is a directory"),
        ({"/p": b"#!/p\n"}, errno.ELOOP, "more than 5 interpreters in a row are scripts"),
        ({"/p": b"\x7fELF\x02\x01"}, errno.ENOEXEC, "it is damaged: its ELF header is cut short or damaged"),
        ({"/p": b"#!/usr/bin/tool\n"}, errno.EACCES, "a mount with noexec"),
        ({"/p": b"#!/usr/bin/tool\n"}, errno.E2BIG, "too large together"),
        ({"/p": b"#!/usr/bin/tool\n"}, 113, "the kernel says EHOSTUNREACH"),
    ],
    ids=repr,
)
def test_execve(said, files, number, words):
    assert words in said("/p", files, number)


def test_another_machine_names_both(said, small_elf):
    text = said("/p", {"/p": small_elf(interp="/lib/ld-linux-aarch64.so.1", machine=183)}, errno.ENOEXEC)
    assert "it is built for AArch64, 64-bit, and this machine is x86_64" in text


def test_a_loader_that_is_none(said, small_elf):
    program = {"/p": small_elf(interp="/ld")}
    assert "its ELF interpreter /ld is no loader: it is no ELF file" in said("/p", {**program, "/ld": b"text"}, errno.ELIBBAD)
    assert "its ELF interpreter /ld is for Intel 80386, 32-bit, and the program for X86-64, 64-bit" in said(
        "/p", {**program, "/ld": small_elf(bits=32, machine=3)}, errno.ELIBBAD
    )
    assert "its ELF interpreter /ld is not executable" in said("/p", {**program, "/ld": "text"}, errno.EACCES)
    assert "the symlink /ld -> gone leads to /gone" in said("/p", {**program, "/ld": "-> gone"}, errno.ENOENT)


def test_the_interpreter_of_a_script_lacks_its_loader(said, small_elf):
    text = said("/p", {"/p": b"#!/opt/sh\n", "/opt/sh": small_elf(interp="/gone/ld.so")}, errno.ENOENT)
    assert "its interpreter /opt/sh is dynamically linked, and its ELF interpreter /gone/ld.so is not in the jail" in text


def test_not_on_path(said):
    assert said("node", {}, errno.ENOENT) == (
        "node cannot start: no 'node' is in the jail's PATH /usr/local/bin:/usr/bin:/bin. "
        "Declare it: Elf('/usr/bin/node') or Script('/usr/bin/node'), or give the run an env with another PATH."
    )
    assert "no 'node' is in the jail's PATH (which is empty)" in said("node", {}, errno.ENOENT, path="")
    text = said("node", {"/usr/bin/node": "not executable"}, errno.EACCES)
    assert "no executable 'node' is in the jail's PATH /usr/local/bin:/usr/bin:/bin; /usr/bin/node: it is not executable: its mode is 0o644" in text
    assert "the symlink /usr/bin/node -> /opt/node leads to /opt/node" in said("node", {"/usr/bin/node": "-> /opt/node", "/opt": None}, errno.ENOENT)
    assert "its name is empty" in said("", {}, errno.ENOENT)


def test_env(said):
    files = {"/p": b"#!/usr/bin/env node\n"}
    expected = "env looks for 'node', which is not in the jail's PATH /usr/local/bin:/usr/bin:/bin. Declare it: Elf('/usr/bin/node')"
    assert expected in said("/p", files, None)
    assert expected in said("/p", files, None, stderr="env: \u2018node\u2019: No such file or directory\n")
    assert expected in said("/usr/bin/env", {}, None, stderr="/usr/bin/env: 'node': No such file or directory\n")
    assert said("/p", {**files, "/usr/bin/node": b"#!/bin/sh\n"}, None) is None
    text = said("/p", {"/p": b"#!/usr/bin/env sh -e\n"}, None)
    assert "env gets 'sh -e' as one argument and looks for a program of that name. Write #!/usr/bin/env -S sh -e" in text
    assert "'sh' is looked for with a '\\r' at its end" in said("/p", {"/p": b"#!/usr/bin/env sh\r\n"}, None)


@pytest.mark.parametrize("line", [
    "tool: error while loading shared libraries: libx.so: cannot open shared object file: No such file or directory",
    "tool: /lib/libc.so.6: version `GLIBC_2.99' not found (required by tool)",
    "tool: symbol lookup error: tool: undefined symbol: frobnicate",
    "Error loading shared library libx.so: No such file or directory (needed by tool)",
    "Error relocating tool: frobnicate: symbol not found",
])
@pytest.mark.parametrize("name", ["tool", "/usr/bin/tool"])
def test_what_a_loader_says_is_of_the_program_that_it_names(said, small_elf, line, name):
    said_by = {whose: "before\n" + line.replace("tool", whose) + "\n" for whose in (name, "other")}
    assert "its loader gave up" in said(name, {}, None, stderr=said_by[name])
    assert said(name, {}, None, stderr=said_by["other"]) is None, "its child's"
    assert said(name, {}, None, stderr="I read: " + line.replace("tool", name)) is None, "no line of a loader's"
    assert said(name, {"/usr/bin/tool": small_elf()}, None, stderr=said_by[name]) is None, "a static program has no loader"
    script = {"/p": f"#!{name} -x\n".encode()} if name.startswith("/") else {"/p": b"#!/usr/bin/env tool\n"}
    assert "its loader gave up" in said("/p", script, None, stderr=said_by[name])


def test_what_the_env_of_a_child_did_not_find_is_not_the_programs(said):
    assert said("/usr/bin/tool", {}, None, stderr="env: 'node': No such file or directory\n") is None

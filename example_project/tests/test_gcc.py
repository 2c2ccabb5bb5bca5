"""gcc compiles and links in a stage; what it made runs in an image without it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_nsjail import Bind, Copy, Elf, File, Tree

HEADERS = Path("/usr/include")
MULTIARCH = Path("/usr/include/x86_64-linux-gnu")
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")


def gcc_directory():
    """Where gcc keeps its own parts: the name holds its version."""
    found = subprocess.run(["gcc", "-print-libgcc-file-name"], check=True, capture_output=True, text=True)
    return Path(found.stdout.strip()).parent


@pytest.fixture(scope="session")
def gcc(nsjail_image, project):
    """The driver and the four programs it calls, then what they read."""
    own = gcc_directory()
    return nsjail_image(
        Elf("/usr/bin/gcc"),
        Elf(own / "cc1"),
        Elf("/usr/bin/as"),
        Elf(own / "collect2"),
        Elf("/usr/bin/ld"),
        # The linker loads this one by itself, so that nobody's closure holds it.
        Elf(own / "liblto_plugin.so"),
        *(File(own / name) for name in ("crtbeginS.o", "crtendS.o", "libgcc.a", "libgcc_s.so")),
        *(File(LIBRARIES / name) for name in ("Scrt1.o", "crti.o", "crtn.o", "libc.so", "libc_nonshared.a", "libm.so")),
        # What the linker scripts libgcc_s.so, libc.so and libm.so name; the paths are written in them.
        *(Elf(f"/lib/x86_64-linux-gnu/{name}") for name in ("libgcc_s.so.1", "libc.so.6", "libm.so.6", "libmvec.so.1")),
        Tree(own / "include"),
        *(File(header) for header in sorted(HEADERS.glob("*.h"))),
        *(Tree(MULTIARCH / name) for name in ("bits", "gnu", "sys")),
        File(project / "src/hello.c", to="/build/hello.c"),
        env={"PATH": "/usr/bin"},
        workdir="/build",
        name="gcc",
    )


def test_gcc_compiles_and_links_in_a_stage(nsjail_run, nsjail_image, gcc):
    stage = gcc.stage(["gcc", "-O2", "-Wall", "-Werror", "-o", "hello", "hello.c", "-lm"])
    # The closure was gcc's: the program's libraries come from the host here, see S2 for both ways.
    libraries = ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libm.so.6"]
    image = nsjail_image(Copy(stage, "/build/hello", to="/hello"), name="hello of gcc")
    result = nsjail_run(["/hello"], image=image, mounts=[Bind(library, library) for library in libraries])
    assert result.ok
    assert result.stdout == "Hello, World: the square root of 2 is 1.414\n"


def test_gcc_says_what_is_wrong(nsjail_run, gcc):
    result = nsjail_run(["gcc", "-fsyntax-only", "-x", "c", "-"], image=gcc, stdin="int main(void) { return nothing; }\n")
    assert result.returncode == 1
    assert "'nothing' undeclared" in result.stderr

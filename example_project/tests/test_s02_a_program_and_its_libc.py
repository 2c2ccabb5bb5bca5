"""S2: a dynamically linked program needs its libraries: copied into the image, or bound from the host."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_nsjail import Bind, Elf, File

GREETING = "Hello, World: the square root of 2 is 1.414\n"


@pytest.fixture(scope="session")
def hello(project, tmp_path_factory):
    """The program, compiled on the host as any project would."""
    program = tmp_path_factory.mktemp("build") / "hello"
    subprocess.run(["gcc", "-o", program, project / "src/hello.c", "-lm"], check=True)
    return program


@pytest.fixture(scope="session")
def alone(nsjail_image, hello):
    """An image of the program, without any library."""
    return nsjail_image(File(hello, to="/hello"), name="hello alone")


def test_s2a_the_closure_is_copied_in(nsjail_run, nsjail_image, hello):
    image = nsjail_image(Elf(hello, to="/hello"))
    result = nsjail_run(["/hello"], image=image)
    assert result.ok
    assert result.stdout == GREETING


def test_s2a_the_manifest_names_who_needed_each_library(nsjail_image, hello):
    files = {Path(path).name: file for path, file in nsjail_image(Elf(hello, to="/hello")).files.items()}
    for library in ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6"):
        assert any("/hello" in reason for reason in files[library].wanted_by), library


def test_s2b_the_image_is_the_program_alone(alone, hello):
    assert [path for path, file in alone.files.items() if file.kind.value == "file"] == ["/hello"]
    assert alone.size == hello.stat().st_size


def test_s2b_its_libraries_bound_one_by_one(nsjail_run, alone):
    libraries = ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libm.so.6"]
    result = nsjail_run(["/hello"], image=alone, mounts=[Bind(library, library) for library in libraries])
    assert result.ok
    assert result.stdout == GREETING


def test_s2b_every_library_of_the_host_bound(nsjail_run, alone):
    # The loader in /lib64 is itself a symlink to /lib/x86_64-linux-gnu, and it looks for libraries there:
    # on the host that is /usr/lib by way of the symlink /lib, which the scratch root does not have.
    whole = [Bind("/lib64", "/lib64"), Bind("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu")]
    result = nsjail_run(["/hello"], image=alone, mounts=whole)
    assert result.ok
    assert result.stdout == GREETING


def test_s2_without_its_libraries_it_does_not_start(nsjail_run, alone):
    assert not nsjail_run(["/hello"], image=alone).ok

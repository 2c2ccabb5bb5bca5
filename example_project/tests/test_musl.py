"""A program of another libc: its loader is its libc."""

from __future__ import annotations

import subprocess

import pytest

from pytest_nsjail import Elf


@pytest.fixture(scope="session")
def compile_with_musl(project, tmp_path_factory):
    def compile_with_musl(*options):
        program = tmp_path_factory.mktemp("musl") / "hello"
        subprocess.run(["musl-gcc", *options, "-o", program, project / "src/hello.c", "-lm"], check=True)
        return program

    return compile_with_musl


@pytest.mark.parametrize("options", [[], ["-static"]], ids=["dynamic", "static"])
def test_musl(nsjail_run, nsjail_image, compile_with_musl, options):
    image = nsjail_image(Elf(compile_with_musl(*options), to="/hello"), entrypoint=["/hello"])
    result = nsjail_run([], image=image)
    assert result.ok
    assert result.stdout == "Hello, World: the square root of 2 is 1.414\n"
    # glibc has no part in it.
    assert not any(path.endswith("libc.so.6") for path in image.files)

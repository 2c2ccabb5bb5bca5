"""S1: an image is the one file that an application is; what built it stays in the stage."""

from __future__ import annotations

import pytest

from pytest_nsjail import Copy, Elf, Exited, File, ResolveError


@pytest.fixture(scope="session")
def assembled(nsjail_image, project):
    """A build stage: an assembler, a linker, a shell to call both, and the source."""
    toolchain = nsjail_image(
        Elf("/usr/bin/nasm"),
        Elf("/usr/bin/ld"),
        Elf("/bin/sh"),
        File(project / "src/hello.asm", to="/elephant/hello.asm"),
        workdir="/elephant",
        name="nasm",
    )
    return toolchain.stage(["/bin/sh", "-c", "nasm -f elf64 hello.asm -o hello.o && ld -s -n hello.o -o hello"])


@pytest.fixture(scope="session")
def scratch(nsjail_image, assembled):
    """The final image: the artifact, and nothing else."""
    return nsjail_image(Copy(assembled, "/elephant/hello", to="/hello"), entrypoint=["/hello"], name="hello")


def test_s1_prints_hello(nsjail_run, scratch):
    result = nsjail_run([], image=scratch)
    assert result.status == Exited(0)
    assert result.stdout == "Hello, World\n"
    assert result.stderr == ""


def test_s1_the_image_is_one_file_of_at_most_848_bytes(scratch):
    [path] = [path for path, file in scratch.files.items() if file.kind.value == "file"]
    assert path == "/hello"
    assert scratch.size == scratch.files[path].size <= 848


def test_s1_the_build_stage_is_gone(nsjail_run, nsjail_image, assembled, scratch):
    assert not any(path.startswith("/elephant") for path in scratch.files)
    without_entrypoint = nsjail_image(Copy(assembled, "/elephant/hello", to="/hello"))
    with pytest.raises(ResolveError, match="no program '/usr/bin/nasm'"):
        nsjail_run(["/usr/bin/nasm", "-v"], image=without_entrypoint)

"""bash with a pipeline: every command of a script is a declaration."""

from __future__ import annotations

import pytest

from pytest_nsjail import Elf


@pytest.fixture(scope="session")
def shell(nsjail_image):
    commands = ("cat", "head", "seq", "sort", "tr", "wc")
    return nsjail_image(Elf("/bin/bash"), *(Elf(f"/usr/bin/{name}") for name in commands), env={"PATH": "/usr/bin"}, name="bash")


def test_bash_pipeline(nsjail_run, shell):
    result = nsjail_run(["bash", "-o", "pipefail", "-c", "seq 100 | sort -rn | head -n 3 | tr '\\n' ' '"], image=shell)
    assert result.stderr == ""
    assert result.stdout == "100 99 98 "
    assert result.ok


def test_bash_standard_input(nsjail_run, shell):
    result = nsjail_run(["bash", "-c", "cat | wc -l"], image=shell, stdin="one\ntwo\n")
    assert result.stdout == "2\n"


def test_bash_what_was_not_declared_is_not_found(nsjail_run, shell):
    result = nsjail_run(["bash", "-c", "ls"], image=shell)
    assert result.returncode == 127
    assert "ls: command not found" in result.stderr

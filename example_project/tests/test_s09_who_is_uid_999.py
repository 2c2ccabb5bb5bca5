"""S9: the kernel knows numbers; a name is what the passwd file in reach says."""

from __future__ import annotations

import pytest

from pytest_nsjail import Elf, Users


@pytest.mark.parametrize("name", ["mongodb", "postgres"])
def test_s9_the_name_differs_with_the_file_in_reach(nsjail_run, nsjail_image, name):
    image = nsjail_image(Elf("/usr/bin/id"), Users(**{name: 999}))
    assert nsjail_run(["/usr/bin/id", "-un"], image=image, user=999).stdout == f"{name}\n"
    assert nsjail_run(["/usr/bin/id", "-u"], image=image, user=999).stdout == "999\n"
    assert nsjail_run(["/usr/bin/id", "-u"], image=image, user=name).stdout == "999\n"


def test_s9_without_the_file_there_is_only_the_number(nsjail_run):
    assert nsjail_run(["/usr/bin/id", "-u"], user=999).stdout == "999\n"
    nameless = nsjail_run(["/usr/bin/id", "-un"], user=999)
    assert nameless.returncode == 1
    assert "cannot find name for user ID 999" in nameless.stderr

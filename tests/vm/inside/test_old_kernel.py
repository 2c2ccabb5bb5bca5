"""What a kernel before 6.6 cannot do for a plain user: its tmpfs has no user.* attributes, by which an overlay marks a directory as its own."""

from __future__ import annotations

import os

import pytest

from pytest_nsjail.kernel.check import Step
from pytest_nsjail.kernel.facts import facts
from pytest_nsjail.kernel.probe import probe

OLD = facts().kernel < (6, 6) and os.geteuid() != 0


def test_a_directory_cannot_go_with_what_is_in_it(sh):
    result = sh("rm -r /data/sub")
    assert (result.ok, "Input/output error" in result.stderr) == (not OLD, OLD)
    assert result.changes.deleted == (("/data/sub/deep",) if OLD else ("/data/sub", "/data/sub/deep"))


@pytest.mark.parametrize("path", ["/data/kept", "/mnt"])
def test_a_directory_cannot_be_made_where_something_was(sh, path):
    result = sh(f"rm -r {path}; mkdir {path}")
    assert (result.ok, "Input/output error" in result.stderr) == (not OLD, OLD)
    if OLD:
        assert result.changes.deleted == (path,)


def test_all_else_can_be_done(sh):
    script = "rm /data/kept; ln -s sub /data/kept; rmdir /mnt; echo x >/mnt; rm /data/gone; mkdir -p /new/data; mv /new /newer; rm -r /newer/data"
    changes = sh(script, check=True).changes
    assert (changes.modified, changes.added, changes.deleted) == (("/data/kept", "/mnt"), ("/newer",), ("/data/gone",))


def test_the_doctor_tries_it(tmp_path):
    came = {check.step: check for check in probe(str(tmp_path))}
    assert came[Step.REPLACED.value].ok != OLD
    assert all(check.ok for check in came.values() if check.needed)

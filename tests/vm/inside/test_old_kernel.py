"""What a kernel before 6.6 cannot do for a plain user: its tmpfs has no user.* attributes, by which an overlay marks a directory as its own."""

from __future__ import annotations

import os

import pytest

from pytest_nsjail.kernel.check import Step
from pytest_nsjail.kernel.facts import facts
from pytest_nsjail.kernel.probe import probe

OLD = facts().kernel < (6, 6) and os.geteuid() != 0


@pytest.mark.parametrize("remove", ["rm -r /data/sub", "rm /data/kept; ln -s /data/sub /data/kept; rm /data/kept"])
def test_a_directory_cannot_take_the_place_of_something_removed(sh, remove):
    path = remove.split()[-1]
    result = sh(f"{remove}; mkdir {path}")
    assert result.ok != OLD
    assert ("Input/output error" in result.stderr) == OLD
    if OLD:
        assert path in result.changes.deleted


def test_all_else_can_take_its_place(sh):
    script = "rm -r /data/sub; echo x >/data/sub; rm /data/kept; ln -s sub /data/kept; rm /data/gone; mkdir -p /new/data; mv /new /newer"
    changes = sh(script, check=True).changes
    assert changes.modified == ("/data/kept", "/data/sub")
    assert changes.added == ("/newer", "/newer/data")
    assert changes.deleted == ("/data/gone", "/data/sub/deep")


def test_the_doctor_tries_it(tmp_path):
    came = {check.step: check for check in probe(str(tmp_path))}
    assert came[Step.REPLACED.value].ok != OLD
    assert all(check.ok for check in came.values() if check.needed)

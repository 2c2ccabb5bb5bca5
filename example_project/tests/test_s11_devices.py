"""S11: a device of the host is there when it was declared, and only then."""

from __future__ import annotations

import os

import pytest

from pytest_nsjail import Device

# An isolated test has no device of the host's, and nor have the jails that it starts.
pytestmark = pytest.mark.isolated(False)

# What every jail has: the harmless ones, and what a terminal needs.
ALWAYS = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console", "/dev/ptmx", "/dev/pts/ptmx"}


def opens(path):
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def device():
    """A device that whoever runs the tests may open: which one that is depends on the host; /dev/full is everywhere."""
    return next(path for path in ("/dev/fuse", "/dev/net/tun", "/dev/kmsg", "/dev/full") if opens(path))


def test_s11_the_mapped_one_opens(nsjail_run, busybox, device):
    result = nsjail_run(["/bin/busybox", "sh", "-c", f": < {device} && echo open"], image=busybox, devices=[Device(device)])
    assert result.ok
    assert result.stdout == "open\n"


def test_s11_no_other_exists(nsjail_run, busybox, device):
    listing = ["/bin/busybox", "find", "/dev", "-type", "c", "-o", "-type", "b"]
    without = set(nsjail_run(listing, image=busybox).stdout.split())
    mapped = set(nsjail_run(listing, image=busybox, devices=[device]).stdout.split())
    assert without <= ALWAYS
    assert mapped == without | {device}

"""The numbers of system calls: this process's, never only the kernel's."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from pytest_nsjail.kernel.keyring import forget_keys
from pytest_nsjail.kernel.spawn import Call, Child
from pytest_nsjail.kernel.syscall import pivot_root


@pytest.fixture(params=["32 bits", "another"])
def strange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "another":
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "here", "6.18", "#1", "vax")))
    else:
        monkeypatch.setattr(sys, "maxsize", 2**31 - 1)


@pytest.mark.usefixtures("strange")
def test_no_call_is_made_by_a_number_that_is_another_calls(monkeypatch):
    for attempt in (lambda: pivot_root("/absent", "/absent"), lambda: Child([Call("say", "write", (1, b"x", 1))])):
        with pytest.raises(OSError, match="not known here") as caught:
            attempt()
        assert caught.value.errno == errno.ENOSYS
    monkeypatch.setattr("pytest_nsjail.kernel.keyring.syscall", lambda *_: pytest.fail("called"))
    forget_keys()  # best effort

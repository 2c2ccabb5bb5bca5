"""Programs that work against their jail: none breaks its init, gets around its clocks, or leads the next program astray."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.jail import Jail


def _until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_program_that_left_its_user_namespace_takes_nobody_along(runtime: Runtime, box: Image):
    with runtime.start(["busybox", "unshare", "-U", "sh", "-c", "echo there; sleep 60; :"], image=box) as jail:
        _until(lambda: jail.stdout)
        result = jail.run(["cat", "/proc/self/uid_map"])
        assert (result.ok, bool(result.stdout)) == (True, True), result.report()

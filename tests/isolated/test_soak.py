"""Some hundred isolated tests in one session: nothing becomes more with every test. ``python -m tests.soak`` does the same with thousands."""

from __future__ import annotations

import pytest

from tests.soak.session import observe

# What comes and goes between two tests, as the jail that is prepared for the next one.
_SLACK = 4
_TESTS = 300


@pytest.mark.parametrize("options", [("--nsjail",), ("--nsjail", "-p", "xdist", "-n2")], ids=["alone", "-n2"])
def test_nothing_grows(tmp_path, options):
    courses = observe(tmp_path, _TESTS, options)
    assert sum(len(course.seconds) for course in courses) == _TESTS
    for course in courses:
        grown = {name: course.grown(name) for name in ("descriptors", "mounts", "namespaces", "groups", "processes")}
        assert max(grown.values()) <= _SLACK, grown
        # Python's own caches aside: of what is kept for each test, it would be more.
        assert course.grown("zygote") < 128, course
        assert course.grown("memory") < 8 * len(course.seconds), course

"""Which suites, and what of each may differ."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest


@dataclass(frozen=True)
class Suite:
    """A project whose source distribution has its tests.

    :ivar requirements: what the tests want besides the project and pytest.
    :ivar arguments: for pytest, in both runs.
    :ivar pytest: the version to take, where the newest cannot run the suite; else the one that is here.
    :ivar expected: tests that need what an isolated test must not have, each with the reason; a test is named by its node id, or by its start up to a ``*``.
    """

    name: str
    version: str
    requirements: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    pytest: str = pytest.__version__
    expected: dict[str, str] = field(default_factory=dict)

    def reason(self, nodeid: str) -> str | None:
        """Why a test may differ; None: it may not."""
        for name, reason in self.expected.items():
            if nodeid == name or (name.endswith("*") and nodeid.startswith(name[:-1])):
                return reason
        return None


SUITES = (
    # What is deselected fails by itself with Python 3.11.
    Suite("attrs", "26.1.0", ("hypothesis==6.170.15", "cloudpickle", "pympler"), ("--deselect=tests/test_converters.py::TestPipe::test_wrapped_annotation",)),
    Suite("click", "8.5.1"),
    # 62,000 tests, most of them comparisons of two versions: a matter of minutes.
    Suite("packaging", "26.3", ("hypothesis==6.170.15", "pretend", "tomli_w", "tomli; python_version < '3.11'")),
    Suite("pluggy", "1.7.0", ("pytest-benchmark",), ("testing",)),
    # It uses a private name that pytest 9.1 has no more.
    Suite("flask", "3.1.3", ("asgiref", "greenlet", "python-dotenv", "werkzeug==3.1.3"), pytest="8.4.2"),
    Suite("itsdangerous", "2.2.0", ("freezegun",)),
    Suite("more-itertools", "11.2.1"),
    Suite("python-dotenv", "1.2.4", ("click", "ipython", "sh")),
)

"""The hooks that this plugin calls; implement them in a conftest.py or in a plugin of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_nsjail.runtime.result import Result
    from pytest_nsjail.spec.jail import JailSpec


def pytest_nsjail_spec(config: pytest.Config, spec: JailSpec) -> JailSpec | None:
    """Look at a jail before it is made, and change it.

    Called for every jail: a run, a started jail, a build stage. The implementations are called one after the other, in pluggy's order; each sees what
    the one before it returned. Wrappers are not called.

    :param spec: what was declared; frozen: change it by :func:`dataclasses.replace`.
    :return: the changed declaration, or None to leave it as it is.
    """


def pytest_nsjail_finished(config: pytest.Config, spec: JailSpec, result: Result) -> None:
    """See what happened to a program in a jail, once it has ended: the main one, and each that :meth:`Jail.run` executed.

    :param spec: what was declared, as the hooks left it.
    """

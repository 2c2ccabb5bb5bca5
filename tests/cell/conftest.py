"""Runs a function in a cell of its own, and says what it returned and how the cell ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_nsjail.kernel import wire
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.cell import Ending
from pytest_nsjail.spec.isolated import IsolatedSpec


class Ran(NamedTuple):
    """``value`` is what the function returned, or ``"TypeOfError: its words"``; None where the child said nothing."""

    value: Any
    ending: Ending


Inside = Callable[..., Ran]


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with Runtime(str(tmp_path_factory.mktemp("store"))) as one:
        yield one


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a file and a directory; the working directory."""
    place = tmp_path / "project"
    (place / "sub").mkdir(parents=True)
    (place / "file").write_text("old\n")
    (place / "sub" / "other").write_text("other\n")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def inside(runtime: Runtime, project: Path, tmp_path: Path) -> Inside:
    keep = tmp_path / "keep"
    keep.mkdir()

    def inside(body: Callable[[], Any], **options: Any) -> Ran:
        cell = runtime.cell(IsolatedSpec.declared(**options), project=str(project), writable=[str(keep)])
        if cell.fork():
            try:
                value = body()
            except BaseException as error:
                value = f"{type(error).__name__}: {error}"
            try:
                wire.send(cell.channel, {"value": value})
            finally:
                os._exit(0)
        said = wire.receive(cell.channel)
        ending = cell.end()
        runtime.ahead()
        return Ran(said.body["value"] if said else None, ending)

    return inside

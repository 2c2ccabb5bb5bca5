"""The names that ``from pytest_nsjail import ...`` knows."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_nsjail

USER = '''
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pytest_nsjail import (
    Bind, Changes, Copy, Denied, Device, Directory, Elf, Exited, File, Groups, Image, ImageSpec, Jail, JailSpec, Limits, NotStarted, NsjailError,
    OutOfMemory, Process, Result, Script, Signaled, Stage, Status, Symlink, Text, TimedOut, Tmpfs, Tree, Usage, Users,
)


@pytest.fixture(scope="session")
def image(nsjail_image: Callable[..., Image]) -> Image:
    return nsjail_image(
        Elf("/bin/sh"), Script("/usr/bin/ldd"), File("/etc/hosts", mode=0o600), Tree("/etc", exclude=("ssl",)), Text("/a", "b"), Symlink("/c", "a"),
        Directory("/d"), Users(me=500), Groups(us=500), env={"A": "B"}, user="me",
    )


def ended(status: Status) -> str:
    match status:
        case Exited(code):
            return str(code + 1)
        case Signaled(signal):
            return str(signal + 1)
        case TimedOut(seconds):
            return f"{seconds:g}"
        case OutOfMemory(limit):
            return str(limit + 1)
        case Denied() | NotStarted():
            return ""


def test_it(nsjail_run: Callable[..., Result], nsjail_start: Callable[..., Jail], image: Image) -> None:
    result = nsjail_run(["a"], image=image, mounts=[Bind("/a", "/b"), Tmpfs("/c", size="1G")], limits=Limits(memory="1M"), devices=[Device("/dev/fuse")])
    code: int | None = result.returncode
    text: str = result.stdout + ended(result.status)
    data: bytes = result.stderr_bytes
    usage: Usage = result.usage
    changes: Changes = result.changes
    left: tuple[Process, ...] = result.leftovers
    stage: Stage = image.stage(["a"])
    copied: Copy = Copy(stage, "/a", to="/b")
    with nsjail_start(["a"]) as jail:
        again: Result = jail.run(["b"])
        pid: int = jail.host_pid
    with pytest.raises(NsjailError, match="a"):
        jail.stop()


def pytest_nsjail_spec(config: pytest.Config, spec: JailSpec) -> JailSpec | None:
    kept: ImageSpec | None = spec.image
    return replace(spec, limits=Limits(processes=64)) if kept else None
'''


def test_every_public_name_is_there() -> None:
    for name in pytest_nsjail.__all__:
        assert getattr(pytest_nsjail, name) is not None, name
    assert pytest_nsjail.__all__ == sorted(set(pytest_nsjail.__all__))


def test_a_star_import_brings_them_all() -> None:
    names: dict[str, object] = {}
    exec("from pytest_nsjail import *", names)
    assert set(names) - {"__builtins__"} == set(pytest_nsjail.__all__)


def test_dir_tells_them_before_they_are_imported() -> None:
    code = "import pytest_nsjail, sys; print(*dir(pytest_nsjail)); assert 'pytest_nsjail.spec' not in sys.modules"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert told == pytest_nsjail.__all__


@pytest.mark.parametrize("name", ["Nothing", "elf", "_private", "Runtime"])
def test_another_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"module 'pytest_nsjail' has no attribute '{name}'"):
        getattr(pytest_nsjail, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from pytest_nsjail import {name}")


def test_a_type_checker_sees_the_names_that_python_finds() -> None:
    tree = ast.parse(inspect.getsource(pytest_nsjail))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(declared) == set(pytest_nsjail.__all__)
    for name, module in declared.items():
        assert getattr(sys.modules.get(str(module)) or importlib.import_module(str(module)), name) is getattr(pytest_nsjail, name)


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy comes with the extra 'dev', which is not installed")
def test_a_users_file_passes_strict_types(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text(USER)
    # From the installed package or beside it, as its py.typed allows.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache"), "test_user.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "MYPYPATH": _beside()})
    assert ran.stdout == "Success: no issues found in 1 source file\n", ran.stdout + ran.stderr


def _beside() -> str:
    return str(Path(pytest_nsjail.__file__).parents[1])


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(pytest_nsjail.__file__).with_name("py.typed").is_file()

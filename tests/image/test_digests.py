"""What host files hold is remembered, by all processes at once, and never wrongly."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_nsjail.image import digests
from pytest_nsjail.image.digests import Digest, Digests
from pytest_nsjail.image.host import HostView
from pytest_nsjail.image.rooted import RootedView
from pytest_nsjail.resolve.entry import Content


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "digests")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every path whose content was read."""
    paths: list[str] = []
    hashed = digests._hashed

    def noted(content: Content) -> Digest:
        paths.append(content.path)
        return hashed(content)

    monkeypatch.setattr(digests, "_hashed", noted)
    return paths


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a test are old enough at once."""
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)


def of(text: bytes) -> Digest:
    return Digest(hashlib.sha256(text).hexdigest(), len(text))


@pytest.mark.usefixtures("settled")
def test_a_host_file_is_read_once(cache: str, tmp_path: Path, opened: list[str]) -> None:
    content = Content(HostView(), str(tmp_path / "file"))
    (tmp_path / "file").write_bytes(b"one")
    first = Digests(cache)
    assert [first.of(content), first.of(content)] == [of(b"one")] * 2
    first.save()
    assert Digests(cache).of(content) == of(b"one")
    assert len(opened) == 1
    (tmp_path / "file").write_bytes(b"two")
    assert Digests(cache).of(content) == of(b"two")


@pytest.mark.usefixtures("settled")
def test_the_same_size_and_mtime_do_not_deceive(cache: str, tmp_path: Path) -> None:
    content = Content(HostView(), str(tmp_path / "file"))
    (tmp_path / "file").write_bytes(b"one")
    os.utime(tmp_path / "file", (1, 1))
    known = Digests(cache)
    assert known.of(content) == of(b"one")
    time.sleep(0.02)  # longer than a tick
    (tmp_path / "file").write_bytes(b"two")
    os.utime(tmp_path / "file", (1, 1))
    assert known.of(content) == of(b"two")


def test_a_file_that_just_changed_is_not_remembered(cache: str, tmp_path: Path, opened: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"one")
    os.utime(tmp_path / "file", (1, 1))  # an old mtime says nothing about when it was written
    known = Digests(cache)
    for _ in range(2):
        known.of(Content(HostView(), str(tmp_path / "file")))
    known.save()
    assert len(opened) == 2
    assert not os.path.exists(cache)


@pytest.mark.usefixtures("settled")
def test_other_views_are_read_each_time(cache: str, tmp_path: Path, opened: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"one")
    known = Digests(cache)
    for _ in range(2):
        assert known.of(Content(RootedView(str(tmp_path)), "/file")) == of(b"one")
        assert known.of(b"literal") == of(b"literal")
    assert opened == ["/file", "/file"]


@pytest.mark.usefixtures("settled")
def test_garbage_and_torn_lines_are_passed_over(cache: str, tmp_path: Path, opened: list[str]) -> None:
    contents = []
    for number in range(3):
        (tmp_path / f"f{number}").write_bytes(b"%d" % number)
        contents.append(Content(HostView(), str(tmp_path / f"f{number}")))
    first = Digests(cache)
    first.of(contents[0])
    first.of(contents[1])
    first.save()
    lines = Path(cache).read_bytes()
    Path(cache).write_bytes(b"\xff\x00 garbage\n" + lines[:-40])  # the second line is torn
    second = Digests(cache)
    assert second.of(contents[2]) == of(b"2")
    second.save()
    opened.clear()
    third = Digests(cache)
    assert [third.of(content) for content in contents] == [of(b"0"), of(b"1"), of(b"2")]
    assert opened == [contents[1].path]


@pytest.mark.usefixtures("settled")
def test_it_does_not_grow_without_bound(cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    monkeypatch.setattr(digests, "_LARGEST", 4000)
    (tmp_path / "file").touch()
    for number in range(100):
        (tmp_path / "file").write_bytes(b"x" * number)
        known = Digests(cache)
        known.of(Content(HostView(), str(tmp_path / "file")))
        known.save()
    assert 0 < os.path.getsize(cache) <= 4200
    opened.clear()
    Digests(cache).of(Content(HostView(), str(tmp_path / "file")))
    assert opened == [], "the newest is kept"
    assert os.listdir(tmp_path) in (["file", "digests"], ["digests", "file"])


@pytest.mark.usefixtures("settled")
def test_a_store_that_takes_no_line_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    known = Digests(str(tmp_path / "no/such/directory"))
    assert known.of(Content(HostView(), str(tmp_path / "file"))) == of(b"one")
    known.save()


def test_processes_append_at_once(tmp_path: Path, python: Callable[..., object]) -> None:
    code = """
import sys; from pathlib import Path; from pytest_nsjail.image import digests; from pytest_nsjail.image.host import HostView
from pytest_nsjail.resolve.entry import Content
digests._SETTLED_NS = 0; here = Path(sys.argv[1], sys.argv[2]); here.mkdir()
for n in range(200):
    known = digests.Digests(); known._path = sys.argv[1] + "/digests"
    (here / str(n)).write_text(sys.argv[2] * n); known.of(Content(HostView(), str(here / str(n)))); known.save()
"""
    processes = [python(code, tmp_path, number) for number in range(6)]
    assert [process.communicate(timeout=60) for process in processes] == [("", "")] * 6  # type: ignore[attr-defined]
    lines = [line for line in (tmp_path / "digests").read_text().splitlines() if line]
    assert len(set(lines)) == 1200
    known = {line.split()[1]: line.split()[5] for line in lines}
    for path in tmp_path.glob("*/*"):
        assert known[str(path.stat().st_ino)] == hashlib.sha256(path.read_bytes()).hexdigest()

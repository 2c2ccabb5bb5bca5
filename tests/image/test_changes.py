"""What a program wrote can be listed and read; what it did not write says so."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from pytest_nsjail.errors import NsjailError
from pytest_nsjail.image.changes import Changes, NotWritten
from pytest_nsjail.image.rooted import RootedView
from pytest_nsjail.kernel.layer_scan import scan


@pytest.fixture
def upper(tmp_path: Path) -> int:
    """A descriptor that the changes own; the directory says as much as an overlay would."""
    for name in ("lower/etc", "upper/etc", "upper/made"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lower/etc/passwd").write_text("old")
    (tmp_path / "lower/etc/group").write_text("old")
    (tmp_path / "upper/etc/passwd").write_text("caf\u00e9")
    (tmp_path / "upper/made/link").symlink_to("/etc/shadow")
    (tmp_path / "upper/made/out").symlink_to("/")
    os.mkfifo(tmp_path / "upper/made/fifo")
    return os.open(tmp_path / "upper", os.O_PATH)


@pytest.fixture
def changes(tmp_path: Path, upper: int) -> Changes:
    lower = str(tmp_path / "lower")
    return Changes(upper, RootedView(lower), [*scan(upper, lower, ()), ("/gone", "deleted")])


def test_the_paths(changes: Changes) -> None:
    assert changes.added == ("/made", "/made/fifo", "/made/link", "/made/out")
    assert changes.modified == ("/etc/passwd",)
    assert changes.deleted == ("/gone",)
    assert list(changes) == ["/etc/passwd", "/gone", "/made", "/made/fifo", "/made/link", "/made/out"]
    assert "/gone" in changes
    assert "/etc" not in changes
    assert len(changes) == 6
    assert changes
    assert repr(changes) == "<Changes added=['/made', '/made/fifo', '/made/link', '/made/out'] modified=['/etc/passwd'] deleted=['/gone']>"


def test_reading(changes: Changes) -> None:
    assert changes.read_bytes("/etc/passwd") == b"caf\xc3\xa9"
    assert changes.read_text("/etc/../etc/passwd") == "caf\u00e9"
    assert changes.read_text("/etc/passwd", encoding="latin-1") == "caf\u00c3\u00a9"


@pytest.mark.parametrize(("path", "said"), [
    ("/gone", r"/gone was deleted\."),
    ("/etc/group", r"/etc/group was not written: it is as it was in the image\."),
    ("/tmp/passwd", r"/tmp/passwd was not written: did you mean /etc/passwd\?"),
    ("/nothing", r"/nothing was not written: the program changed /etc/passwd, /gone, .*, \.\.\."),
    ("etc/passwd", r"etc/passwd was not written: the path is not absolute\."),
    ("/made", r"/made was added as a directory, which holds no bytes\."),
    ("/made/fifo", r"/made/fifo was added as a fifo, which holds no bytes\."),
    ("/made/link", r"/made/link was added as a symlink to /etc/shadow\. Read that\."),
    ("/made/out/etc/passwd", r"was not written"),
])
def test_what_cannot_be_read_says_why(changes: Changes, path: str, said: str) -> None:
    with pytest.raises(NotWritten, match=said) as raised:
        changes.read_bytes(path)
    assert isinstance(raised.value, NsjailError)
    assert isinstance(raised.value, LookupError)


def test_a_record_that_lies_leads_nowhere(tmp_path: Path, upper: int) -> None:
    changes = Changes(upper, RootedView(str(tmp_path / "lower")), [("/made/out/etc/passwd", "added")])
    with pytest.raises(NsjailError, match=r"cannot be read: Not a directory, errno 20"):
        changes.read_bytes("/made/out/etc/passwd")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_closed_file_says_so(tmp_path: Path, changes: Changes) -> None:
    (tmp_path / "upper/etc/passwd").chmod(0)
    with pytest.raises(NsjailError, match=r"was modified, but it cannot be read: Permission denied, errno 13"):
        changes.read_bytes("/etc/passwd")


def test_closing_gives_the_descriptor_back(changes: Changes, upper: int) -> None:
    changes.close()
    changes.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(upper)
    assert changes.modified == ("/etc/passwd",)
    with pytest.raises(NsjailError, match=r"/etc/passwd was modified, but these changes are closed\. Read it before close"):
        changes.read_bytes("/etc/passwd")


def test_forgotten_changes_close_themselves(tmp_path: Path, upper: int) -> None:
    changes = Changes(upper, RootedView(str(tmp_path / "lower")), [])
    assert held(tmp_path) == 2
    del changes
    gc.collect()
    assert held(tmp_path) == 0


def held(directory: Path) -> int:
    """How many of this process's descriptors are of directories below one."""
    return sum(os.path.realpath(f"/proc/self/fd/{file}").startswith(f"{directory}/") for file in os.listdir("/proc/self/fd"))


def test_nothing(tmp_path: Path) -> None:
    changes = Changes(None, RootedView(str(tmp_path)), [])
    assert not changes
    assert (list(changes), repr(changes)) == ([], "<Changes none>")
    with pytest.raises(NotWritten, match=r"/x was not written: the program changed nothing\."):
        changes.read_bytes("/x")
    changes.close()

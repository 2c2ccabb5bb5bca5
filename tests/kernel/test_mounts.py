"""Paths inside a root: made component by component, and never outside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_nsjail.kernel.mounts import make_inside, openat2


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[int, Path, Path]]:
    """A root, as a descriptor and a path, and a directory beside it."""
    inside, outside = tmp_path / "root", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield fd, inside, outside
    os.close(fd)


def make(root: int, path: str, *, directory: bool = True) -> list[str]:
    fd, made = make_inside(root, path, directory=directory)
    os.close(fd)
    return made


def test_what_is_missing_is_made_and_named(root):
    fd, inside, _ = root
    assert make(fd, "/a/b/c") == ["/a", "/a/b", "/a/b/c"]
    assert make(fd, "/a/b/file", directory=False) == ["/a/b/file"]
    assert make(fd, "/a/b/c") == []
    assert (inside / "a/b/c").is_dir()
    assert (inside / "a/b/file").is_file()


def test_the_descriptor_is_what_was_asked_for(root):
    fd, inside, _ = root
    made, _ = make_inside(fd, "/x/y", directory=True)
    assert os.readlink(f"/proc/self/fd/{made}") == str(inside / "x/y")
    os.close(made)


@pytest.mark.parametrize("target", ["{outside}", "../outside", "../../../../../../../..{outside}", "/../outside"])
def test_a_symlink_out_of_the_root_stays_in(root, target):
    fd, inside, outside = root
    (inside / "link").symlink_to(target.format(outside=outside))
    with pytest.raises(OSError):
        make(fd, "/link/x")
    (inside / "last").symlink_to(target.format(outside=outside))
    with pytest.raises(OSError):
        make(fd, "/last")
    assert os.listdir(outside) == []


def test_a_symlink_inside_the_root_is_followed_and_named_by_what_it_leads_to(root):
    fd, inside, _ = root
    (inside / "real").mkdir()
    (inside / "relative").symlink_to("real")
    (inside / "absolute").symlink_to("/real")
    assert make(fd, "/relative/x") == ["/real/x"]
    assert make(fd, "/absolute/y") == ["/real/y"]


def test_a_loop_is_an_error(root):
    fd, inside, _ = root
    (inside / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        make(fd, "/loop/x")


def test_a_file_on_the_way_is_an_error(root):
    fd, inside, _ = root
    (inside / "file").touch()
    with pytest.raises(NotADirectoryError):
        make(fd, "/file/x")


def test_an_error_leaves_no_descriptor(root):
    fd, inside, _ = root
    (inside / "file").touch()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        with pytest.raises(NotADirectoryError):
            make(fd, "/file/x")
        with pytest.raises(FileExistsError):
            make(fd, f"/{number}/../x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_openat2_takes_the_directory_for_the_root(root):
    fd, inside, outside = root
    (inside / "file").write_text("inside")
    (outside / "file").write_text("outside")
    for path in ("file", "/file", "../file", "/../../file"):
        opened = openat2(fd, path, os.O_RDONLY)
        assert os.read(opened, 10) == b"inside"
        assert not os.get_inheritable(opened)
        os.close(opened)

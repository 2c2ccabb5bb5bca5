"""The scan and the merged view agree with what the kernel shows in a real overlay."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.image.layer import LayerView
from pytest_nsjail.image.rooted import RootedView
from pytest_nsjail.kernel import layer_scan

Overlay = Callable[[Path, str], tuple[int, list[str]]]


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    root = tmp_path / "lower"
    for path in ("etc/deep/er", "var/log", "opt/empty"):
        (root / path).mkdir(parents=True)
    for path in ("etc/passwd", "etc/group", "etc/deep/one", "etc/deep/er/two", "var/log/old", "file", "twin"):
        (root / path).write_text(path)
    (root / "link").symlink_to("etc/passwd")
    return root


def everything(view: FileView) -> list[str]:
    found, todo = [], ["/"]
    while todo:
        path = todo.pop()
        for name in view.listdir(path):
            below = f"{path.rstrip('/')}/{name}"
            status = view.lstat(below)
            assert status
            found.append(below)
            if status.kind is Kind.DIRECTORY:
                todo.append(below)
    return sorted(found)


SCRIPTS = {
    "nothing": ("true", {}),
    "added": ("echo new > etc/new; ln -s nowhere sym; mkdir -p a/b; echo c > a/b/c", {
        "/a": "added", "/a/b": "added", "/a/b/c": "added", "/etc/new": "added", "/sym": "added"}),
    "modified": ("echo more >> etc/passwd; rm link; ln -s other link", {"/etc/passwd": "modified", "/link": "modified"}),
    "deleted file": ("rm etc/passwd", {"/etc/passwd": "deleted"}),
    "deleted tree": ("rm -r etc/deep", dict.fromkeys(("/etc/deep", "/etc/deep/one", "/etc/deep/er", "/etc/deep/er/two"), "deleted")),
    "opaque": ("rm -r etc; mkdir -p etc/deep; echo 1 > etc/passwd; echo 3 > etc/deep/three", {
        "/etc/passwd": "modified", "/etc/group": "deleted", "/etc/deep/one": "deleted", "/etc/deep/er": "deleted",
        "/etc/deep/er/two": "deleted", "/etc/deep/three": "added"}),
    "file to directory": ("rm file; mkdir file; echo in > file/in", {"/file": "modified", "/file/in": "added"}),
    "directory to file": ("rm -r etc/deep; echo x > etc/deep", {
        "/etc/deep": "modified", "/etc/deep/one": "deleted", "/etc/deep/er": "deleted", "/etc/deep/er/two": "deleted"}),
    "moved": ("mv file moved", {"/file": "deleted", "/moved": "added"}),
    "back again": ("echo x > t; rm t; rm opt/empty -d; mkdir opt/empty", {}),
    "empty file": (": > etc/nought; : > file", {"/etc/nought": "added", "/file": "modified"}),
    "fifo": ("mkfifo pipe", {"/pipe": "added"}),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scan_and_view_agree_with_the_kernel(name: str, overlay: Overlay, lower: Path) -> None:
    script, expected = SCRIPTS[name]
    upper, seen = overlay(lower, script)
    assert dict(layer_scan.scan(upper, str(lower), ())) == expected
    assert everything(LayerView(RootedView(upper), RootedView(str(lower)))) == seen


def test_scan_takes_descriptors_even_o_path_ones(overlay: Overlay, lower: Path) -> None:
    upper, _ = overlay(lower, "echo x > etc/new; rm file")
    first, second = os.open(".", os.O_PATH, dir_fd=upper), os.open(lower, os.O_PATH)
    try:
        assert layer_scan.scan(first, second, ()) == [("/etc/new", "added"), ("/file", "deleted")]
    finally:
        os.close(first)
        os.close(second)


def test_what_the_jail_made_is_not_named_but_what_the_program_put_there_is(overlay: Overlay, lower: Path) -> None:
    upper, _ = overlay(lower, "mkdir -p proc mnt/data yard; : > config; : > used; echo x > used; echo x > yard/x; rm file; mkdir file")
    ignore = ("/proc", "/mnt", "/mnt/data", "/yard", "/config", "/used", "/file")
    assert layer_scan.scan(upper, str(lower), ignore) == [("/file", "modified"), ("/used", "added"), ("/yard/x", "added")]


def test_layer_reads_the_newer_file_and_hides_the_deleted(overlay: Overlay, lower: Path) -> None:
    upper, _ = overlay(lower, "echo -n new > etc/passwd; rm -r var; rm link; ln -s there link")
    view = LayerView(RootedView(upper), RootedView(str(lower)))
    with view.open("/etc/passwd") as passwd, view.open("/etc/group") as group:
        assert (passwd.read(), group.read()) == (b"new", b"etc/group")
    assert view.readlink("/link") == "there"
    assert view.lstat("/var/log/old") is None
    with pytest.raises(FileNotFoundError):
        view.open("/var/log/old")
    with pytest.raises(FileNotFoundError):
        view.listdir("/var")


def test_the_attribute_form_of_a_whiteout_is_one(tmp_path: Path, lower: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "file").touch()
    (upper / "twin").touch()
    try:
        os.setxattr(upper / "file", "user.overlay.whiteout", b"")
    except OSError as error:
        pytest.skip(f"no user attributes here: {error}")
    directory = os.open(upper, os.O_RDONLY)
    try:
        assert layer_scan.scan(directory, str(lower), ()) == [("/file", "deleted"), ("/twin", "modified")]
    finally:
        os.close(directory)
    view = LayerView(RootedView(str(upper)), RootedView(str(lower)))
    assert view.lstat("/file") is None
    assert "file" not in view.listdir("/")
    assert "twin" in view.listdir("/")


def test_a_symlink_in_the_upper_leads_nowhere(tmp_path: Path, lower: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "etc").symlink_to("/")
    directory = os.open(upper, os.O_RDONLY)
    try:
        found = dict(layer_scan.scan(directory, str(lower), ()))
    finally:
        os.close(directory)
    assert found["/etc"] == "modified"
    assert set(found.values()) == {"modified", "deleted"}
    view = LayerView(RootedView(str(upper)), RootedView(str(lower)))
    assert view.lstat("/etc/passwd") is None
    with pytest.raises(OSError):
        view.listdir("/etc")


def test_a_path_deeper_than_any_call_can_name_ends_the_walk(tmp_path: Path, lower: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    directory = here = os.open(upper, os.O_RDONLY)
    opened = [here]
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=here)
        here = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        opened.append(here)
    found = layer_scan.scan(directory, str(lower), ())
    for number in reversed(range(25)):
        os.rmdir("d" * 200, dir_fd=opened[number])
    for file in opened:
        os.close(file)
    assert len(found) == 21
    assert len(found[-2][0]) < 4096 <= len(found[-1][0])


def test_scan_needs_nothing_but_os_and_stat() -> None:
    code = ("import os, stat, sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]); import layer_scan; "
            "print(sorted(set(sys.modules) - before))")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, os.path.dirname(layer_scan.__file__)], capture_output=True, text=True, check=True)
    assert done.stdout == "['__future__', 'layer_scan']\n"

"""The host, a root and a root with mounts, as FileViews."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pytest_nsjail.fileview import Kind
from pytest_nsjail.image.empty import EmptyView
from pytest_nsjail.image.host import HostView
from pytest_nsjail.image.mounted import MountedView
from pytest_nsjail.image.rooted import RootedView


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "usr/bin").mkdir(parents=True)
    (made / "usr/bin/tool").write_bytes(b"tool")
    (made / "bin").symlink_to("usr/bin")
    (made / "out").symlink_to("/")
    (made / "etc").symlink_to("../../../../../../../../etc")
    return made


def test_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "file").chmod(0o641)
    os.utime(tmp_path / "file", ns=(1, 1_500_000_000_123_456_789))
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    for view, base in ((HostView(), str(tmp_path)), (RootedView(str(tmp_path)), "")):
        status = view.lstat(f"{base}/file")
        assert status
        assert (status.kind, status.mode, status.size, status.mtime_ns) == (Kind.FILE, 0o641, 5, 1_500_000_000_123_456_789)
        real = (tmp_path / "file").stat()
        assert (status.identity, status.ctime_ns) == ((real.st_dev, real.st_ino), real.st_ctime_ns)
        kinds = {name: found.kind for name in ("link", "fifo", "socket") if (found := view.lstat(f"{base}/{name}"))}
        assert kinds == {"link": Kind.SYMLINK, "fifo": Kind.FIFO, "socket": Kind.SOCKET}
        assert view.lstat(f"{base}/none") is None
        assert view.lstat(f"{base}/file/below") is None
        assert view.readlink(f"{base}/link") == "nowhere"
        assert view.listdir(base or "/") == ["fifo", "file", "link", "socket"]
        with view.open(f"{base}/file") as file:
            assert file.read() == b"12345"
            assert not os.get_inheritable(file.fileno())
        for name in ("link", "fifo", "socket", "none", ""):
            with pytest.raises(OSError):
                view.open(f"{base}/{name}")
    device = HostView().lstat("/dev/null")
    assert device
    assert device.kind is Kind.DEVICE
    with pytest.raises(OSError, match="not a regular file"):
        HostView().open("/dev/null")


def test_what_is_no_file_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open a FIFO wakes its writer; to open a watchdog starts it."""
    os.mkfifo(tmp_path / "fifo")
    opened: list[str] = []
    monkeypatch.setattr(os, "open", lambda path, *_, **__: opened.append(path))
    for path in (f"{tmp_path}/fifo", "/dev/null"):
        with pytest.raises(OSError, match="not a regular file"):
            HostView().open(path)
    assert opened == []


def test_a_root_is_left_by_no_path(root: Path) -> None:
    view = RootedView(str(root))
    assert view.lstat("/out/etc") is None
    assert view.lstat("/etc/passwd") is None
    assert view.lstat("/bin/tool") is None
    assert view.readlink("/bin") == "usr/bin"
    assert view.listdir("/../../..") == ["bin", "etc", "out", "usr"]
    top, above = view.lstat("/"), view.lstat("/..")
    assert top == above
    assert top
    assert top.identity == (root.stat().st_dev, root.stat().st_ino)
    for ask in (view.open, view.listdir, view.readlink):
        with pytest.raises(OSError):
            ask("/out/etc/passwd")


def test_a_root_by_descriptor_lives_on_without_it(root: Path) -> None:
    directory = os.open(root, os.O_PATH)
    view = RootedView(directory)
    os.close(directory)
    assert view.listdir("/usr/bin") == ["tool"]
    view.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        view.listdir("/")


def test_nothing_is_in_an_empty_view() -> None:
    view = EmptyView()
    top = view.lstat("/")
    assert top
    assert (top.kind, view.listdir("/"), view.lstat("/x")) == (Kind.DIRECTORY, [], None)
    for ask in (view.listdir, view.readlink, view.open):
        with pytest.raises(FileNotFoundError, match="/x"):
            ask("/x")


def test_mounts(root: Path, tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "file"
    (data / "sub").mkdir(parents=True)
    (data / "sub/hidden").write_text("hidden")
    (data / "here").write_text("here")
    file.write_text("a file")
    host = HostView()
    view = MountedView(RootedView(str(root)), {
        "/srv/data": (host, str(data)), "/srv/data/sub": (RootedView(str(root)), "/usr"), "/usr/bin/tool": (host, str(file)), "/x/y/z": (host, str(file)),
    })
    assert view.listdir("/") == ["bin", "etc", "out", "srv", "usr", "x"]
    assert view.listdir("/srv") == ["data"]
    assert view.listdir("/srv/data") == ["here", "sub"]
    assert view.listdir("/srv/data/sub") == ["bin"]
    assert view.listdir("/x/y") == ["z"]
    assert [found.kind for path in ("/srv", "/x/y", "/srv/data/sub") if (found := view.lstat(path))] == [Kind.DIRECTORY] * 3
    assert view.lstat("/srv/data/sub/hidden") is None
    assert view.lstat("/srv/database") is None
    with view.open("/usr/bin/tool") as tool, view.open("/srv/data/sub/bin/tool") as other:
        assert (tool.read(), other.read()) == (b"a file", b"tool")
    assert view.readlink("/bin") == "usr/bin"


def test_the_host_mounted_over_the_root_itself(root: Path, tmp_path: Path) -> None:
    view = MountedView(HostView(), {"/": (RootedView(str(root)), "/"), "/mnt": (HostView(), str(tmp_path))})
    assert view.listdir("/") == ["bin", "etc", "mnt", "out", "usr"]
    assert view.listdir("/mnt") == ["root"]

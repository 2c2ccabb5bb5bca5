from __future__ import annotations

import pytest

from pytest_nsjail.errors import ResolveError
from pytest_nsjail.fileview import Kind
from pytest_nsjail.resolve.lookup import find
from pytest_nsjail.resolve.walk import Walker, land


def test_every_symlink_and_directory_on_the_way_is_kept(memory):
    view = memory({"/bin": "-> usr/bin", "/usr/bin/awk": "-> /etc/alternatives/awk", "/etc/alternatives/awk": "-> ../../usr/bin/mawk", "/usr/bin/mawk": b"x"})
    walk = Walker(view).walk("/bin/awk")
    assert walk.links == (("/bin", "usr/bin"), ("/usr/bin/awk", "/etc/alternatives/awk"), ("/etc/alternatives/awk", "../../usr/bin/mawk"))
    assert walk.directories == ("/usr", "/usr/bin", "/etc", "/etc/alternatives")
    assert (walk.final, walk.stat.kind) == ("/usr/bin/mawk", Kind.FILE)


def test_dot_dot_is_physical(memory):
    view = memory({"/a/b/link": "-> /x/y/z", "/x/y/z/file": "1", "/x/y/other": "2", "/a/b/other": "wrong"})
    assert Walker(view).walk("/a/b/link/../other").final == "/x/y/other"


def test_dot_dot_at_the_root_stays_there(memory):
    assert Walker(memory({"/a": "1"})).walk("/../../a").final == "/a"


@pytest.mark.parametrize("path", ["/missing", "/missing/../file", "/file/below", "/file/..", "/dangling"])
def test_nothing_is_there(memory, path):
    assert Walker(memory({"/file": "1", "/dangling": "-> nowhere"})).walk(path).stat is None


def test_loop(memory):
    with pytest.raises(ResolveError, match=r"more than 40 symlinks, the last of them /[ab]"):
        Walker(memory({"/a": "-> b", "/b": "-> a"})).walk("/a")


def test_forty_symlinks_are_allowed(memory):
    chain = {f"/l{number}": f"-> l{number + 1}" for number in range(40)}
    assert Walker(memory({**chain, "/l40": "end"})).walk("/l0").final == "/l40"
    with pytest.raises(ResolveError):
        Walker(memory({**chain, "/l40": "-> l41", "/l41": "end"})).walk("/l0")


def test_a_directory_walked_before_is_remembered_with_its_links(memory):
    walker = Walker(memory({"/lib": "-> usr/lib", "/usr/lib/a": "1", "/usr/lib/b": "2"}))
    walker.walk("/lib/a")
    assert walker.walk("/lib/b").links == (("/lib", "usr/lib"),)


def test_a_view_that_may_not_look(memory):
    view = memory({"/closed/file": "1"})
    lstat = view.lstat

    def refused(path):
        if path.startswith("/closed/"):
            raise PermissionError(13, "Permission denied", path)
        return lstat(path)

    view.lstat = refused
    walk = Walker(view).walk("/closed/file")
    assert (walk.stat, walk.trouble) == (None, "Permission denied")


def test_land_needs_no_file():
    links = {"/lib": "usr/lib", "/usr/lib/deep": "/far/away"}
    assert land("/lib/x/y", links).path == "/usr/lib/x/y"
    assert land("/lib/deep/y", links).path == "/far/away/y"
    assert land("/lib/deep/y", links).directories == ("/usr", "/usr/lib", "/far", "/far/away")


def test_a_destination_may_not_leave_the_root():
    assert land("/out/x", {"/out": "../../x"}).path == "/x/x"
    with pytest.raises(ResolveError, match=r"File\(1\): the destination /out/x leaves the root"):
        land("/out/x", {"/out": "../../x"}, strict="File(1)")


def test_land_loop():
    with pytest.raises(ResolveError, match="more than 40 symlinks of the image"):
        land("/a/x", {"/a": "/b", "/b": "/a"})


def test_find(memory):
    view = memory({
        "/one/tool": "not executable", "/two/tool": "-> /three/real", "/three/real": b"x", "/two/dir": None, "/three/dir": b"x",
        "/two/loop": "-> loop", "/three/loop": b"x", "/tool": b"x",
    })  # fmt: skip
    assert find("tool", "/nowhere:/one:/two:/three", view) == "/two/tool"
    assert find("dir", "/two:/three", view) == "/three/dir"
    assert find("loop", "/two:/three", view) == "/three/loop"
    assert find("other", "/one:/two", view) is None
    assert find("", "/one", view) is None
    assert find("/any/where", "/one", view) == "/any/where"
    assert find("tool", "/one:", view) == "/tool"

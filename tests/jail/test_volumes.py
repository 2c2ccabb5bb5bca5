"""Writable binds: who owns what in them, inside and outside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pytest_nsjail.errors import SetupError
from pytest_nsjail.kernel.facts import facts
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.spec.mount import Bind

USER, OWNER = 500, 1234
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory away, which only root may")


def owners(directory: Path) -> set[tuple[int, int]]:
    """Who owns a directory and what is in it."""
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in (directory, *directory.rglob("*"))}


@pytest.fixture
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """As pytest makes one: its own, and closed to everybody else."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], check=True, capture_output=True, text=True).stdout.strip()
    if os.geteuid() == 0 and kind == "tmpfs" and facts().kernel < (6, 3):
        request.applymarker(pytest.mark.xfail(raises=SetupError, strict=False, reason="an id-mapped tmpfs: Linux 6.3"))
    directory = tmp_path / "volume"
    directory.mkdir(mode=0o700)
    (directory / "before").write_text("of the host\n")
    (directory / "before").chmod(0o600)
    return directory


@pytest.mark.parametrize("user", [None, USER, "7:8"])
def test_a_directory_is_the_users_inside_and_its_owners_outside(sh, volume, user):
    uid, gid = {None: (0, 0), USER: (500, 500), "7:8": (7, 8)}[user]
    script = "cd /data && cat before && mkdir -m 700 sub && echo new >sub/file && echo more >>before && stat -c %u:%g . before sub sub/file"
    result = sh(script, mounts=[Bind(volume, "/data", writable=True)], user=user)
    assert result.stdout == "of the host\n" + f"{uid}:{gid}\n" * 4, result.report()
    assert owners(volume) == {(os.geteuid(), os.getegid())}
    assert (volume / "sub/file").read_text() == "new\n"
    assert (volume / "before").read_text() == "of the host\nmore\n"
    (volume / "sub/file").unlink()
    (volume / "sub").rmdir()


def test_a_file_is_too(sh, volume):
    result = sh("echo more >>/mnt/file; stat -c %u:%g /mnt/file", mounts=[Bind(volume / "before", "/mnt/file", writable=True)], user=USER)
    assert result.stdout == "500:500\n", result.report()
    assert (volume / "before").read_text() == "of the host\nmore\n"


def test_what_one_jail_wrote_the_next_one_has(sh, volume):
    mounts = [Bind(volume, "/data", writable=True)]
    assert sh("umask 077; mkdir /data/sub; echo kept >/data/sub/file", mounts=mounts, user=USER).ok
    assert sh("cat /data/sub/file", mounts=mounts, user=USER).stdout == "kept\n"
    assert sh("cat /data/sub/file", mounts=mounts, user=501).stdout == "kept\n", "whoever it is, it is the directory's owner"


def test_two_volumes(sh, volume, tmp_path):
    (tmp_path / "other").mkdir(mode=0o700)
    mounts = [Bind(volume, "/data", writable=True), Bind(tmp_path / "other", "/other", writable=True)]
    result = sh("touch /data/file /other/file && stat -c %u /data/file /other/file", mounts=mounts, user=USER)
    assert result.stdout == "500\n500\n", result.report()
    assert owners(tmp_path) == {(os.geteuid(), os.getegid())}


def test_a_program_is_the_second_process_of_its_jail(sh, volume):
    # A namespace for the mount takes a process of its own.
    assert sh("echo $$", mounts=[Bind(volume, "/data", writable=True)], user=USER).stdout == "2\n"


@needs_root
class TestOfSomebodyElse:
    """As root, of any directory."""

    @pytest.fixture
    def theirs(self, volume: Path) -> Path:
        for path in (volume, volume / "before"):
            os.chown(path, OWNER, OWNER + 1)
        return volume

    def test_it_stays_the_owners(self, sh, theirs):
        assert sh("cat /data/before; touch /data/new; stat -c %u:%g /data/new", mounts=[Bind(theirs, "/data", writable=True)], user=USER).stdout.endswith(
            "500:500\n"
        )
        assert owners(theirs) == {(OWNER, OWNER + 1)}

    def test_the_users_own_is_as_it_is(self, sh, theirs):
        result = sh("touch /data/new; stat -c %u:%g /data/new", mounts=[Bind(theirs, "/data", writable=True)], user=OWNER)
        assert result.stdout == f"{OWNER}:{OWNER}\n"
        assert (theirs / "new").stat().st_gid == OWNER

    def test_root_is_root(self, sh, theirs):
        assert sh("stat -c %u /data; touch /data/new", mounts=[Bind(theirs, "/data", writable=True)]).stdout == f"{OWNER}\n"
        assert (theirs / "new").stat().st_uid == 0

    def test_everybody_else_keeps_his_number(self, sh, theirs):
        (theirs / "third").touch()
        os.chown(theirs / "third", 77, 78)
        os.chown(theirs / "before", USER, USER)
        found = sh("stat -c %u:%g /data/third /data/before", mounts=[Bind(theirs, "/data", writable=True)], user=USER).stdout
        assert found == f"77:78\n{OWNER}:{OWNER + 1}\n", "two have changed places"

    def test_where_the_file_system_knows_no_id_maps_the_error_names_both(self, tmp_path):
        # An overlay knows none.
        parts = {f"{name}dir": tmp_path / name for name in ("lower", "upper", "work")}
        merged = tmp_path / "merged"
        for directory in (*parts.values(), merged):
            directory.mkdir()
        options = ",".join(f"{name}={directory}" for name, directory in parts.items())
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
        try:
            # One of its own, that began when the overlay was there.
            with Runtime(str(tmp_path / "store")) as runtime, pytest.raises(SetupError) as refused:
                runtime.run(["/bin/busybox", "true"], mounts=[Bind(merged, "/data", writable=True)], user="500:501")
        finally:
            subprocess.run(["umount", merged], check=True)
        words = str(refused.value)
        assert all(word in words for word in ("Invalid argument", f"chown 500:501 {merged}", "user='0:0'")), words

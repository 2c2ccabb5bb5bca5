"""The root file system: what is there, what is not, what is written where, and what comes of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_nsjail.errors import ResolveError, SpecError
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.spec.dependency import Directory, Elf, Symlink, Text
from pytest_nsjail.spec.mount import Bind, Device, Tmpfs


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A directory of the host's, which anybody may read and write."""
    tmp_path.chmod(0o777)
    directory = tmp_path / "given"
    directory.mkdir()
    directory.chmod(0o777)
    (directory / "file").write_text("of the host\n")
    (directory / "file").chmod(0o666)
    return directory


def test_what_is_not_declared_is_not_there(sh, given):
    names = sh("ls -a / /etc /bin/../usr /home /root /sys /run /var 2>&1").stdout
    assert "No such file or directory" in names
    assert sh(f"cat {given}/file /etc/shadow /etc/hostname").stderr.count("No such file") == 3
    assert sorted(sh("ls /").stdout.split()) == sorted(["bin", "data", "dev", "etc", "mnt", "proc", "ro", "tmp", "usr"])


def test_no_scaffolding_is_seen(sh, runtime, box):
    mounts = [line.split()[4] for line in sh("cat /proc/self/mountinfo").stdout.splitlines()]
    assert {path for path in mounts if not path.startswith(("/proc", "/dev"))} == {"/"}
    assert os.path.dirname(box.rootfs.path) not in sh("cat /proc/self/mountinfo /proc/mounts").stdout


# Binds


def test_a_bind_is_read_only_with_every_mount_below(sh, given):
    result = sh("cat /mnt/file && echo x >/mnt/file; rm /mnt/file; touch /mnt/new; chmod 600 /mnt/file; mkdir /mnt/d", mounts=[Bind(given, "/mnt")])
    assert result.stdout == "of the host\n"
    assert result.stderr.count("Read-only file system") == 5
    assert sorted(os.listdir(given)) == ["file"]


def test_mounts_below_a_read_only_bind_are_read_only_too(sh):
    # /dev has file systems mounted below it wherever this runs, among them one that anybody may write to.
    result = sh("test -d /mnt/shm && touch /mnt/shm/nsjail-test", mounts=[Bind("/dev", "/mnt")])
    assert "Read-only file system" in result.stderr
    assert not os.path.exists("/dev/shm/nsjail-test")


def test_a_writable_bind_is_the_hosts(sh, given):
    result = sh("echo more >>/mnt/file; echo new >/mnt/new; rm -f /mnt/none; touch /here", mounts=[Bind(given, "/mnt", writable=True)], check=True)
    assert (given / "file").read_text() == "of the host\nmore\n"
    assert (given / "new").read_text() == "new\n"
    assert (given / "new").stat().st_uid == os.geteuid()
    assert list(result.changes) == ["/here"]


def test_a_writable_bind_in_a_read_only_one_is_writable(sh, given):
    (given / "inner").mkdir()
    result = sh("touch /mnt/no; touch /mnt/inner/yes", mounts=[Bind(given, "/mnt"), Bind(given / "inner", "/mnt/inner", writable=True)])
    assert result.stderr.count("Read-only") == 1
    assert (given / "inner" / "yes").exists()


def test_a_read_only_bind_in_a_writable_one_is_read_only(sh, given):
    (given / "inner").mkdir()
    sh("touch /mnt/yes; touch /mnt/inner/no", mounts=[Bind(given, "/mnt", writable=True), Bind(given / "inner", "/mnt/inner")])
    assert sorted(os.listdir(given)) == ["file", "inner", "yes"]
    assert os.listdir(given / "inner") == []


def test_a_file_a_fifo_and_a_socket_can_be_bound(sh, given, monkeypatch):
    monkeypatch.chdir(given)  # a socket's whole name has to fit into 108 bytes (unix(7))
    os.mkfifo(given / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        mounts = [Bind(given / name, f"/deep/er/{name}") for name in ("file", "fifo", "socket")]
        result = sh("cd /deep/er; cat file; stat -c %F file fifo socket", mounts=mounts)
    assert result.stdout.splitlines() == ["of the host", "regular file", "fifo", "socket"]
    assert not result.changes, "mount points are the jail's doing, not the program's"


def test_a_host_speaks_through_a_socket_that_was_bound(runtime: Runtime, box: Image, given, monkeypatch):
    monkeypatch.chdir(given)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        server.listen()
        os.chmod(given / "socket", 0o777)
        with runtime.start(["probe", "say", "/mnt/socket", "hello\n"], image=box, mounts=[Bind(given, "/mnt", writable=True)]) as jail:
            server.settimeout(10)
            try:
                connection, _ = server.accept()
            except TimeoutError:
                pytest.fail(jail.stderr)
            with connection:
                assert connection.recv(100) == b"hello\n"


def test_the_symlinks_of_a_source_are_followed(sh, given, tmp_path):
    (tmp_path / "link").symlink_to("given")
    assert sh("cat /mnt/file", mounts=[Bind(f"{tmp_path}//link/.", "/mnt")]).stdout == "of the host\n"


def test_odd_names_can_be_bound(sh, given):
    odd = given / 'a b:c,d\\e"f\ng\udcff'
    odd.mkdir()
    (odd / "file").write_text("odd\n")
    assert sh('cat "$ODD/file"', mounts=[Bind(odd, '/mnt/x y:,\\"\nz')], env={"ODD": '/mnt/x y:,\\"\nz'}).stdout == "odd\n"


def test_a_later_mount_lies_on_an_earlier_one(sh, given):
    other = given / "other"
    other.mkdir()
    (other / "file").write_text("later\n")
    assert sh("cat /mnt/file", mounts=[Bind(given, "/mnt"), Bind(other, "/mnt")]).stdout == "later\n"
    assert sh("cat /mnt/file", mounts=[Bind(other, "/mnt"), Bind(given, "/mnt")]).stdout == "of the host\n"
    assert sh("ls /mnt", mounts=[Bind(given, "/mnt"), Tmpfs("/mnt")]).stdout == ""
    assert sh("cat /mnt/x/file", mounts=[Tmpfs("/mnt"), Bind(given, "/mnt/x")]).stdout == "of the host\n"


def test_a_program_that_a_later_mount_hides_is_missing_before_anything_is_made(runtime, box, given):
    inner, outer = Bind("/bin", "/mnt/inner"), Bind(given, "/mnt")
    (given / "inner").mkdir()
    assert runtime.run(["/mnt/inner/busybox", "true"], image=box, mounts=[outer, inner]).ok
    with pytest.raises(ResolveError, match="has no program '/mnt/inner/busybox'"):
        runtime.run(["/mnt/inner/busybox", "true"], image=box, mounts=[inner, outer])


@pytest.mark.parametrize("writable", [False, True])
def test_a_target_that_a_bind_does_not_have_is_not_made_on_the_host(sh, given, writable):
    outer = Bind(given, "/mnt", writable=writable)
    for inner, what in ((Tmpfs("/mnt/made/by"), "directory"), (Bind(given, "/mnt/made/by"), "directory"), (Bind(given / "file", "/mnt/made/by"), "file")):
        with pytest.raises(SpecError, match=rf"the target is in the bind on /mnt, and not there\. Make the {what} '{given}/made/by' first\."):
            sh(":", mounts=[outer, inner])
    assert os.listdir(given) == ["file"]
    (given / "there").mkdir()
    assert sh("ls /mnt/there/made", mounts=[outer, Tmpfs("/mnt/there"), Bind(given, "/mnt/there/made/by")]).stdout == "by\n"
    assert os.listdir(given / "there") == []


LATER = """
import os, subprocess, sys
from pytest_nsjail.errors import SetupError
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.spec.mount import Bind
here = sys.argv[1]
with Runtime(f"{here}/store") as runtime:
    runtime.run(["/bin/busybox", "true"], mounts=[Bind(f"{here}/given", "/mnt")], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", f"{here}/given"], check=True)
    os.mkdir(f"{here}/given/below")
    for source in (f"{here}/given", f"{here}/given/below"):
        try:
            print(runtime.run(["/bin/busybox", "ls", "/mnt"], mounts=[Bind(source, "/mnt")]).report())
        except SetupError as error:
            print(error)
"""


def test_what_was_mounted_after_the_first_jail_is_not_taken_for_what_it_hides(given, tmp_path, as_root):
    unshare = ["unshare", "-m"] if as_root else ["unshare", "-Urm"]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("nobody may mount here in a namespace of his own")
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    said = subprocess.run([*unshare, sys.executable, "-c", LATER, tmp_path], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    advice = "It was mounted after the first jail of this session was made: mount it before pytest starts."
    assert [line.endswith(advice) for line in said.stdout.splitlines()] == [True, True], said.stdout + said.stderr
    assert ("Stale file handle" in said.stdout, "No such file" in said.stdout) == (True, True)


def test_kinds_that_differ_are_told_before_anything_is_made(sh, given):
    for mount in (Bind(given, "/data/kept"), Bind(given / "file", "/data"), Tmpfs("/data/kept")):
        with pytest.raises(SpecError, match="Mount a directory on a directory and a file on a file"):
            sh(":", mounts=[mount])


def test_a_missing_source_is_told_before_anything_is_made(sh, given):
    with pytest.raises(SpecError, match="No such file or directory"):
        sh(":", mounts=[Bind(given / "absent", "/mnt")])


@pytest.mark.parametrize("target", ["/proc", "/dev", "/dev/null", "/dev/pts", "/proc/sys", "/proc/1"])
def test_what_the_jail_stands_on_is_no_target(sh, given, target):
    with pytest.raises(SpecError, match="the jail's own"):
        sh(":", mounts=[Bind(given if target != "/dev/null" else given / "file", target)])


# Targets that lead astray


@pytest.fixture
def crooked(runtime: Runtime, given: Path) -> Image:
    """An image whose symlinks lead to the host's directory, if anybody follows them there."""
    up = "../" * 12
    return runtime.image(
        Elf("/bin/busybox"), Symlink("/bin/sh", "busybox"), Symlink("/straight", str(given)), Symlink("/climb", f"{up}{str(given)[1:]}"),
        Directory("/real"), Symlink("/near", "real"), Symlink("/loop", "loop"), Symlink("/dev", str(given)), Symlink("/tmp", f"{up}{str(given)[1:]}"),
        Symlink("/proc", str(given)), env={"PATH": "/bin"},
    )


def test_a_target_behind_a_symlink_stays_inside(sh, crooked, given, probe):
    result = sh("busybox ls /real", image=crooked, mounts=[Bind(probe, "/near/probe")])
    assert result.stdout == "probe\n"


@pytest.mark.parametrize("target", ["/straight", "/climb", "/straight/x", "/climb/x"])
def test_a_target_behind_a_symlink_to_nowhere_touches_no_host(sh, crooked, given, target, probe):
    try:
        sh("busybox true", image=crooked, mounts=[Tmpfs(target)])
    except Exception as error:
        assert target.rpartition("/x")[0] in str(error) or target in str(error)  # noqa: PT017
    assert sorted(os.listdir(given)) == ["file"]


def test_a_target_that_is_a_loop_is_an_error(sh, crooked):
    with pytest.raises(Exception, match="/loop"):
        sh("busybox true", image=crooked, mounts=[Tmpfs("/loop")])


def test_symlinks_of_the_image_for_dev_proc_and_tmp_touch_no_host(sh, crooked, given):
    result = sh("echo x >/dev/null && busybox ls /dev /proc/self/status && echo x >/tmp/file && busybox stat -c %F /dev /proc /tmp", image=crooked)
    assert result.ok, result
    assert result.stdout.split("\n")[-4:-1] == ["directory"] * 3
    assert sorted(os.listdir(given)) == ["file"]
    assert (given / "file").read_text() == "of the host\n"


def test_a_program_cannot_lead_a_writable_bind_astray(sh, given):
    # What the program makes after the mounts are made is nobody's way out.
    sh(f"ln -s / /mnt/top; ln -s {given.parent} /mnt/out; touch /mnt/top/x /mnt/out/y", mounts=[Bind(given, "/mnt", writable=True)])
    assert not os.path.exists("/x")
    assert sorted(os.listdir(given.parent)) == ["given"]


# tmpfs


def test_a_tmpfs_holds_what_it_was_given_and_no_more(sh):
    result = sh("head -c 1048576 /dev/zero >/mnt/full && echo fits; echo more >/mnt/more || exit 7", mounts=[Tmpfs("/mnt", size="1M")])
    assert (result.stdout, result.returncode) == ("fits\n", 7)
    assert "No space left" in result.stderr
    assert [(one.limit, "/mnt" in one.evidence) for one in result.exceeded] == [("space", True)]


def test_a_full_tmpfs_is_no_news_where_the_program_was_content(sh):
    assert sh("head -c 1048576 /dev/zero >/mnt/full", mounts=[Tmpfs("/mnt", size="1M")]).exceeded == ()


def test_a_tmpfs_is_written_to_by_anybody_where_everybody_writes(sh):
    for target in ("/tmp", "/var/tmp", "/dev/shm"):
        assert sh(f"stat -c %a {target}; touch {target}/x", mounts=[Tmpfs(target, size="1M")], user=500).stdout == "1777\n"
    assert sh("stat -c %a /mnt", mounts=[Tmpfs("/mnt")]).stdout == "755\n"


def test_what_is_written_to_a_tmpfs_is_no_change(sh):
    assert not sh("touch /mnt/x /dev/shm/y /dev/z", mounts=[Tmpfs("/mnt")]).changes


# The throwaway layer


CHANGE = """
echo new >/data/changed; rm /data/gone; mkdir /added; echo one >/added/file; ln -s file /added/link; mkfifo /added/fifo
rm -r /data/sub; mkdir /data/sub; echo other >/data/sub/else
"""


def test_changes_are_told_apart(sh, box):
    changes = sh(CHANGE, check=True).changes
    assert changes.added == ("/added", "/added/fifo", "/added/file", "/added/link", "/data/sub/else")
    assert changes.modified == ("/data/changed",)
    assert changes.deleted == ("/data/gone", "/data/sub/deep")
    assert (changes.read_text("/data/changed"), changes.read_text("/added/file")) == ("new\n", "one\n")


@pytest.mark.usefixtures("removable")
def test_a_directory_that_became_a_file_and_a_file_that_became_a_directory(sh):
    changes = sh("rm -r /data/sub; echo file >/data/sub; rm /data/kept; mkdir /data/kept; touch /data/kept/x", check=True).changes
    assert changes.modified == ("/data/kept", "/data/sub")
    assert (changes.added, changes.deleted) == (("/data/kept/x",), ("/data/sub/deep",))
    assert changes.read_text("/data/sub") == "file\n"


@pytest.mark.usefixtures("removable")
def test_a_renamed_directory_is_deleted_there_and_added_here(sh):
    changes = sh("mv /data /moved && cat /moved/sub/deep", check=True).changes
    assert {"/moved", "/moved/sub/deep", "/moved/kept"} <= set(changes.added)
    assert {"/data", "/data/sub/deep"} <= set(changes.deleted)


def test_nothing_written_is_no_change(sh):
    assert not sh("cat /data/kept; echo x >/dev/null; echo >/mnt/no/where").changes


def test_modes_and_owners_of_an_added_directory_are_the_programs(sh):
    changes = sh("mkdir /private; chmod 700 /private; echo x >/private/x", check=True).changes
    assert changes.added == ("/private", "/private/x")
    assert changes.read_text("/private/x") == "x\n"


@pytest.mark.parametrize("user", [None, 500])
def test_files_that_nobody_may_read_are_changes_all_the_same(sh, user):
    changes = sh("mkdir /tmp/x; echo a >/tmp/x/y; chmod 0 /tmp/x/y /tmp/x", user=user, check=True).changes
    assert changes.added == ("/tmp/x", "/tmp/x/y")


def test_odd_names_and_kinds_are_changes(sh):
    changes = sh("cd /tmp; touch \"$(printf 'a\\nb')\" \"$(printf '\\377')\" '[x'; mkfifo fifo; ln -s /etc/passwd link", check=True).changes
    assert changes.added == ("/tmp/[x", "/tmp/a\nb", "/tmp/fifo", "/tmp/link", "/tmp/\udcff")


def test_a_path_beyond_every_limit_ends_nobody(sh):
    result = sh("i=0; while [ $i -lt 600 ]; do mkdir dddddddddd && cd dddddddddd || break; i=$((i+1)); done", timeout=60)
    assert len(result.changes) > 300


def test_one_jail_does_not_see_what_another_wrote(sh, box):
    before = {path: entry.size for path, entry in box.files.items()}
    sh(CHANGE, check=True)
    result = sh("cat /data/changed /data/gone /data/sub/deep; ls /added")
    assert result.stdout == "old\ngone\ndeep\n"
    assert {path: entry.size for path, entry in box.files.items()} == before


def test_the_image_in_the_store_stays_as_it_was(sh, box):
    def seen() -> list[tuple[str, int, int, int]]:
        found = []
        for directory, _, files in os.walk(box.rootfs.path):
            for name in ("", *files):
                status = os.lstat(os.path.join(directory, name))
                found.append((os.path.join(directory, name), status.st_mode, status.st_size, status.st_mtime_ns))
        return sorted(found)

    before = seen()
    sh(f"{CHANGE}; touch /bin/busybox; chmod 777 /bin /; rm -rf /data; echo x >/etc/passwd")
    assert seen() == before


@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b", 'a"b', "a b", "a\nb", "ü", "\udcff", "a=b", "lowerdir=x,upperdir=y", "%s%n", "-o"])
def test_a_stores_path_can_hold_anything(tmp_path, name):
    with Runtime(str(tmp_path / name)) as runtime:
        result = runtime.run(["/bin/busybox", "sh", "-c", "echo x >/written; /bin/busybox cat /written"])
        assert (result.stdout, list(result.changes)) == ("x\n", ["/written"])


def test_a_root_of_a_mode_of_its_own_keeps_it(runtime: Runtime):
    assert runtime.run(["/bin/busybox", "stat", "-c", "%a %a", "/", "/tmp"]).stdout == "755 755\n1777 1777\n"


def test_a_read_only_root_refuses_writes_but_in_tmp(sh, given):
    mounts = [Tmpfs("/mnt"), Bind(given, "/bound", writable=True)]
    result = sh("touch /x /data/kept; echo x >/etc/passwd; touch /tmp/a /mnt/b /bound/c /dev/shm/d; echo x >/dev/null", read_only=True, mounts=mounts)
    assert result.stderr.count("Read-only file system") == 3
    assert sorted(os.listdir(given)) == ["c", "file"]
    assert not result.changes


def test_a_read_only_root_keeps_a_tmp_that_was_declared(sh):
    result = sh("head -c 2097152 /dev/zero >/tmp/x", read_only=True, mounts=[Tmpfs("/tmp", size="1M")])
    assert [one.limit for one in result.exceeded] == ["space"]


# Devices


def test_dev_has_these_nodes_and_no_other(sh):
    expected = {"fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}
    assert set(sh("ls /dev").stdout.split()) == expected


@pytest.mark.parametrize("user", [None, 500])
def test_the_devices_are_devices(sh, user):
    script = "stat -L -c %F /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/ptmx | grep -c character; true"
    script = script.replace("grep", "busybox grep")
    assert sh(script, user=user).stdout == "7\n"
    result = sh("echo x >/dev/null; echo x >>/dev/null; head -c 3 /dev/zero; head -c 16 /dev/urandom | wc -c; echo x >/dev/full", user=user)
    assert result.stdout == "\0\0\0" + "16\n"
    assert "No space left" in result.stderr


@pytest.mark.parametrize("user", [None, 500])
def test_a_terminal_can_be_had(sh, user):
    assert sh("probe terminal", user=user).stdout == "/dev/pts/0 terminal\n"


def test_shared_memory_is_everybodys_and_the_jails_own(sh):
    assert sh("stat -c %a /dev/shm; ls -A /dev/shm; touch /dev/shm/x", user=500).stdout == "1777\n"


def test_a_device_of_the_host_can_be_had(sh):
    wanted = "/dev/kmsg" if os.path.exists("/dev/kmsg") else "/dev/ptmx"
    number = os.stat(wanted).st_rdev
    result = sh(f"stat -c '%F %t %T' {wanted}", devices=[wanted])
    assert result.stdout == f"character special file {os.major(number):x} {os.minor(number):x}\n"


def test_a_device_keeps_its_mode_and_owner(sh):
    before = os.stat("/dev/null")
    result = sh("chmod 666 /dev/null; chown 0:0 /dev/null; touch -d @0 /dev/null; rm /dev/null")
    assert not result.ok
    assert (os.stat("/dev/null").st_mode, os.stat("/dev/null").st_uid) == (before.st_mode, before.st_uid)
    assert os.stat("/dev/null").st_mtime > 0


@pytest.mark.parametrize("what", ["/dev/absent", "/dev/shm", "/dev/fd"])
def test_what_is_no_device_is_refused(sh, what):
    with pytest.raises(SpecError, match=what):
        sh(":", devices=[Device(what)])


def test_a_device_in_a_bound_directory_is_dead(sh):
    result = sh("head -c 1 /mnt/zero", mounts=[Bind("/dev", "/mnt")])
    assert "Permission denied" in result.stderr


def test_an_image_keeps_the_declared_modes(runtime: Runtime):
    image = runtime.image(Elf("/bin/busybox"), Text("/secret", "x", mode=0o600), Directory("/closed", mode=0o700))
    assert runtime.run(["/bin/busybox", "stat", "-c", "%a", "/secret", "/closed"], image=image).stdout == "600\n700\n"


@pytest.mark.parametrize(("script", "told"), [
    ("echo >/new", ["/new"]), ("echo >/tmp/new", ["/tmp/new"]), ("echo >>/data/changed", ["/data/changed"]), ("rm /data/gone", ["/data/gone"]),
    ("mkdir -p /data/a/b", ["/data/a", "/data/a/b"]), ("rmdir /tmp && echo >/tmp", ["/tmp"]),
    ("touch -r / /mark; echo >/new; touch -r /mark /; rm /mark", ["/new"]),
])
def test_whatever_is_written_at_once_is_seen(sh, script, told):
    for _ in range(5):
        changes = sh(script).changes
        assert sorted([*changes.added, *changes.modified, *changes.deleted]) == told

"""Roots are built once, exactly as declared, by whoever comes first; and nothing half-made is ever seen."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest

from pytest_nsjail.errors import NsjailError, ResolveError, SetupError
from pytest_nsjail.fileview import Kind, Stat
from pytest_nsjail.image.store import Store
from pytest_nsjail.resolve.entry import Closure, Content, Entry

ClosureOf = Callable[[dict[str, object]], Closure]
Python = Callable[..., "subprocess.Popen[str]"]

# A closure whose one file can be hashed, but stops in the middle of being copied.
STUCK = """
import io, sys, time
from conftest import closure_of
from pytest_nsjail.fileview import Kind, Stat
from pytest_nsjail.image.store import Store
from pytest_nsjail.resolve.entry import Content, Entry
class View:
    opened = 0
    def lstat(self, path): return Stat(Kind.FILE, 0o644, 4, 0, (0, 1))
    def open(self, path):
        View.opened += 1
        if View.opened == 1: return io.BytesIO(b"stuck")
        print("copying", flush=True); time.sleep(int(sys.argv[2])); return io.BytesIO(b"stuck")
closed = Entry("/closed", Kind.DIRECTORY, 0, ("test",))
stuck = Entry("/stuck", Kind.FILE, 0o644, ("test",), Content(View(), "/stuck"))
print(Store(sys.argv[1]).rootfs(closure_of({"/closed": closed, "/closed/x": b"x", "/stuck": stuck})).path)
"""


class Views:
    """A view that gives other bytes each time, or fails to."""

    def __init__(self, *contents: bytes | OSError) -> None:
        self.contents = list(contents)

    def lstat(self, path: str) -> Stat | None:
        return Stat(Kind.FILE, 0o644, 1, 0, (0, 1))

    def readlink(self, path: str) -> str:
        raise AssertionError("nobody asks for that")

    def listdir(self, path: str) -> list[str]:
        raise AssertionError("nobody asks for that")

    def open(self, path: str) -> BinaryIO:
        content = self.contents.pop(0)
        if isinstance(content, OSError):
            raise content
        return BytesIO(content)


def left(store: Store) -> list[str]:
    return os.listdir(f"{store.directory}/tmp")


def described(root: str) -> dict[str, tuple[str, int, int, bytes | str]]:
    found: dict[str, tuple[str, int, int, bytes | str]] = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory, name)
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
            found["/" + str(path.relative_to(root))] = (stat.filemode(status.st_mode)[0], stat.S_IMODE(status.st_mode), status.st_mtime_ns, content)
    return found


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_a_root_is_what_was_declared_whatever_the_umask(umask: int, tmp_path: Path, closure_of: ClosureOf) -> None:
    source = tmp_path / "program"
    source.write_bytes(b"\x7fELF")
    source.chmod(0o755)
    os.utime(source, ns=(5, 1_600_000_000_987_654_321))
    closure = closure_of({
        "/usr/bin/program": source, "/bin": "usr/bin", "/etc/passwd": b"root", "/tmp": Entry("/tmp", Kind.DIRECTORY, 0o1777, ("test",)),
        "/ro": Entry("/ro", Kind.DIRECTORY, 0o555, ("test",)), "/ro/file": Entry("/ro/file", Kind.FILE, 0o444, ("test",), b"", mtime_ns=7),
    })
    before = os.umask(umask)
    try:
        rootfs = Store(str(tmp_path / "store")).rootfs(closure)
    finally:
        os.umask(before)
    assert described(rootfs.path) == {
        "/usr": ("d", 0o755, 0, ""), "/usr/bin": ("d", 0o755, 0, ""), "/usr/bin/program": ("-", 0o755, 1_600_000_000_987_654_321, b"\x7fELF"),
        "/bin": ("l", 0o777, 0, "usr/bin"), "/etc": ("d", 0o755, 0, ""), "/etc/passwd": ("-", 0o644, 0, b"root"), "/tmp": ("d", 0o1777, 0, ""),
        "/ro": ("d", 0o555, 0, ""), "/ro/file": ("-", 0o444, 7, b""),
    }
    assert stat.S_IMODE(os.stat(rootfs.path).st_mode) == 0o755
    assert [stat.S_IMODE(os.stat(tmp_path / path).st_mode) for path in ("store", "store/roots", "store/tmp")] == [0o700] * 3


def test_closed_files_and_directories_can_be_built_and_pruned(store: Store, closure_of: ClosureOf) -> None:
    closure = closure_of({
        "/closed": Entry("/closed", Kind.DIRECTORY, 0, ("test",)), "/closed/in": Entry("/closed/in", Kind.DIRECTORY, 0, ("test",)),
        "/closed/in/secret": Entry("/closed/in/secret", Kind.FILE, 0, ("test",), b"s"),
    })
    rootfs = store.rootfs(closure)
    assert stat.S_IMODE(os.stat(f"{rootfs.path}/closed").st_mode) == 0
    rootfs.close()
    assert store.prune(0) == (rootfs.manifest.digest,)
    assert (os.listdir(f"{store.directory}/roots"), left(store)) == ([], [])


def test_the_second_time_nothing_is_built_and_each_knows_its_own_reasons(store: Store, closure_of: ClosureOf) -> None:
    closure = closure_of({"/file": b"x"})
    other = Closure({path: replace(entry, wanted_by=("somebody else",)) for path, entry in closure.entries.items()})
    first = store.rootfs(closure)
    made = os.stat(first.path).st_ino
    second = Store(store.directory).rootfs(other)
    assert (second.path, os.stat(second.path).st_ino) == (first.path, made)
    assert second.manifest.files["/file"].wanted_by == ("somebody else",)
    assert store.rootfs(closure_of({"/file": b"y"})).path != first.path


def test_hard_links_of_the_host_stay_and_equal_files_stay_apart(store: Store, tmp_path: Path, closure_of: ClosureOf) -> None:
    for name in ("one", "twin"):
        (tmp_path / name).write_bytes(b"same")
        os.utime(tmp_path / name, (9, 9))
    (tmp_path / "linked").hardlink_to(tmp_path / "one")
    closure = closure_of({"/a": tmp_path / "one", "/b": tmp_path / "linked", "/c": tmp_path / "twin", "/d": tmp_path / "one", "/t": b"same", "/u": b"same"})
    entries = {**closure.entries, "/d": replace(closure.entries["/d"], mode=0o600)}
    root = store.rootfs(Closure(entries)).path
    numbers = {name: os.stat(f"{root}/{name}").st_ino for name in "abcdtu"}
    assert numbers["a"] == numbers["b"]
    assert len(set(numbers.values())) == 5
    assert numbers["a"] != (tmp_path / "one").stat().st_ino
    assert [stat.S_IMODE(os.stat(f"{root}/{name}").st_mode) for name in "ad"] == [0o644, 0o600]
    assert store.rootfs(closure_of({"/a": tmp_path / "one", "/b": tmp_path / "twin"})).path != \
        store.rootfs(closure_of({"/a": tmp_path / "one", "/b": tmp_path / "linked"})).path


def test_a_sparse_file_stays_sparse(store: Store, tmp_path: Path, closure_of: ClosureOf) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.write(b"head")
        file.seek(32 << 20)
        file.write(b"tail")
        file.truncate(40 << 20)
    status = os.stat(store.rootfs(closure_of({"/sparse": tmp_path / "sparse"})).path + "/sparse")
    assert status.st_size == 40 << 20
    assert status.st_blocks * 512 < 4 << 20
    with open(store.rootfs(closure_of({"/sparse": tmp_path / "sparse"})).path + "/sparse", "rb") as file:
        assert file.read() == (tmp_path / "sparse").read_bytes()


def test_nothing_is_written_through_a_symlink_of_the_image(store: Store, tmp_path: Path, closure_of: ClosureOf) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = Entry("/etc", Kind.SYMLINK, 0o777, ("Symlink('/etc', ...)",), target=str(outside))
    through = Entry("/etc/passwd", Kind.FILE, 0o644, ("Text('/etc/passwd')",), b"root")
    with pytest.raises(ResolveError, match=r"/etc/passwd, wanted by Text.* needs the directory /etc, which is a symlink wanted by Symlink"):
        store.rootfs(Closure({"/etc": link, "/etc/passwd": through}))
    assert os.listdir(outside) == []


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a//b", "//a", "/a/", "/a\0b", "/missing/parent"])
def test_a_path_that_is_not_normal_is_refused(store: Store, path: str) -> None:
    with pytest.raises(ResolveError, match="wanted by the test"):
        store.rootfs(Closure({path: Entry(path, Kind.FILE, 0o644, ("the test",), b"")}))


def test_a_source_that_changes_is_named_and_nothing_is_published(store: Store, closure_of: ClosureOf) -> None:
    changing = Entry("/bin/tool", Kind.FILE, 0o755, ("test",), Content(Views(b"before", b"after!"), "/opt/tool"))
    with pytest.raises(SetupError, match=r"/opt/tool changed while it was copied to /bin/tool"):
        store.rootfs(closure_of({"/bin/tool": changing}))
    assert (left(store), os.listdir(f"{store.directory}/roots")) == ([], [])


@pytest.mark.parametrize("contents", [(PermissionError(13, "no"),), (b"x", PermissionError(13, "no"))], ids=["hashing", "copying"])
def test_a_source_that_cannot_be_read_is_named_with_its_reason(store: Store, closure_of: ClosureOf, contents: tuple[bytes | OSError, ...]) -> None:
    secret = Entry("/etc/shadow", Kind.FILE, 0o600, ("Tree('/etc')",), Content(Views(*contents), "/etc/shadow"))
    with pytest.raises(SetupError, match=r"read /etc/shadow, wanted by Tree\('/etc'\) \(Permission denied, errno 13\)\. Leave it out"):
        store.rootfs(closure_of({"/etc/shadow": secret}))
    assert left(store) == []


def test_a_source_that_is_gone_is_named(store: Store, tmp_path: Path, closure_of: ClosureOf) -> None:
    (tmp_path / "file").touch()
    closure = closure_of({"/file": tmp_path / "file"})
    (tmp_path / "file").unlink()
    with pytest.raises(SetupError, match=r"read .*/file, wanted by File.*\(No such file or directory, errno 2\)"):
        store.rootfs(closure)


def test_eight_processes_want_the_same(tmp_path: Path, python: Python) -> None:
    code = """
import sys; from conftest import closure_of; from pytest_nsjail.image import store
sys.stdin.readline(); built = []; build = store.build
def count(*arguments): built.append(1); build(*arguments)
store.build = count
root = store.Store(sys.argv[1]).rootfs(closure_of({f"/d{n % 9}/f{n}": b"%d" % n * 5000 for n in range(300)}))
print(root.path, len(built), flush=True)
sys.stdin.readline()
"""
    processes = [python(code, tmp_path / "store") for _ in range(8)]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.stdout.readline().split() for process in processes if process.stdout]
    assert all(len(answer) == 2 for answer in answers), [process.communicate()[1] for process in processes]
    assert len({path for path, _ in answers}) == 1
    assert sum(int(built) for _, built in answers) == 1
    assert sum(len(files) for _, _, files in os.walk(answers[0][0])) == 300
    store = Store(str(tmp_path / "store"))
    assert (left(store), store.prune(0)) == ([], ())
    for process in processes:
        process.communicate("\n")
    assert len(store.prune(0)) == 1


def test_eight_threads_want_the_same(store: Store, closure_of: ClosureOf) -> None:
    closure = closure_of({f"/f{n}": b"%d" % n for n in range(100)})
    roots = []
    threads = [threading.Thread(target=lambda: roots.append(store.rootfs(closure))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(roots) == 8
    assert len({root.path for root in roots}) == 1
    assert left(store) == []


def test_a_killed_builder_leaves_what_the_next_store_removes(store: Store, python: Python) -> None:
    builder = python(STUCK, store.directory, 600)
    assert builder.stdout
    assert builder.stdout.readline() == "copying\n"
    assert len(left(Store(store.directory))) == 2, "a living builder's work is left alone"
    assert store.prune(0) == ()
    assert len(left(store)) == 2
    builder.kill()
    builder.wait()
    assert len(left(store)) == 2
    Store(store.directory)
    assert (left(store), os.listdir(f"{store.directory}/roots")) == ([], [])


def test_whoever_waited_for_a_killed_builder_builds(store: Store, python: Python) -> None:
    builder = python(STUCK, store.directory, 600)
    assert builder.stdout
    assert builder.stdout.readline() == "copying\n"
    waiting = python(STUCK, store.directory, 0)
    builder.kill()
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, err) == (0, "")
    assert Path(out.splitlines()[-1], "stuck").read_bytes() == b"stuck"
    assert left(store) == []


@pytest.mark.parametrize("damage", ["manifest.json", "lock", "root"])
def test_a_damaged_root_is_built_again(store: Store, closure_of: ClosureOf, damage: str) -> None:
    closure = closure_of({"/file": b"x"})
    first = store.rootfs(closure)
    first.close()
    os.rename(os.path.dirname(first.path) + f"/{damage}", f"{store.directory}/away")
    assert Path(store.rootfs(closure).path, "file").read_bytes() == b"x"
    assert sorted(os.listdir(os.path.dirname(first.path))) == ["lock", "manifest.json", "root", "used"]
    assert left(store) == []


def test_a_damaged_root_in_use_is_not_pulled_away(store: Store, closure_of: ClosureOf) -> None:
    closure = closure_of({"/file": b"x"})
    user = store.rootfs(closure)
    inside = os.open(user.path, os.O_PATH)
    os.unlink(os.path.dirname(user.path) + "/manifest.json")
    again = store.rootfs(closure)
    assert os.stat("file", dir_fd=inside).st_ino != os.stat(f"{again.path}/file").st_ino
    user.close()
    store.prune(1000)
    assert left(store) == []
    with pytest.raises(FileNotFoundError):
        os.stat("file", dir_fd=inside)
    os.close(inside)


def test_a_symlink_in_the_store_leads_nothing_outside(store: Store, tmp_path: Path, closure_of: ClosureOf) -> None:
    closure = closure_of({"/file": b"x"})
    rootfs = store.rootfs(closure)
    rootfs.close()
    outside = tmp_path / "outside"
    os.rename(os.path.dirname(rootfs.path), outside)
    (outside / "root/file").write_bytes(b"another")
    os.symlink(outside, os.path.dirname(rootfs.path))
    os.symlink(outside, f"{store.directory}/tmp/leftover")
    assert Path(Store(store.directory).rootfs(closure).path, "file").read_bytes() == b"x"
    assert left(store) == []
    assert (outside / "root/file").read_bytes() == b"another"


@pytest.mark.parametrize("name", ["roots", "tmp"])
def test_a_store_whose_rooms_are_symlinks_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / name).symlink_to(tmp_path / "outside")
    with pytest.raises(SetupError, match=rf"{name}: it is no directory\. .*--nsjail-store"):
        Store(str(tmp_path / "store"))


def test_a_store_that_all_may_write_to_is_refused_unless_sticky(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o777)
    with pytest.raises(SetupError, match=r"every user may write to it\. Run chmod o-w .*store, or .*--nsjail-store"):
        Store(str(tmp_path / "store"))
    (tmp_path / "store").chmod(0o1777)
    Store(str(tmp_path / "store"))


def test_another_users_store_is_refused(tmp_path: Path) -> None:
    theirs = Path("/usr")
    if os.geteuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        os.chown(theirs, 12345, 12345)
    with pytest.raises(SetupError, match=r"it belongs to uid \d+, and this process is uid \d+\. .*--nsjail-store"):
        Store(str(theirs))


def test_a_store_on_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="no directory"):
        Store(str(tmp_path / "file"))
    with pytest.raises(SetupError, match=r"Not a directory|File exists"):
        Store(str(tmp_path / "file/below"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(SetupError, match=r"open the store, below .*Permission denied, errno 13.*--nsjail-store"):
        Store(str(tmp_path / "store"))


@pytest.mark.parametrize(("options", "files"), [("size=1m", {"/big": 4 << 20}), ("nr_inodes=40", {f"/f{n}": 1 for n in range(60)})], ids=["bytes", "inodes"])
def test_a_full_disk_is_said_and_left_clean(tmp_path: Path, python: Python, mounting: tuple[str, ...], options: str, files: dict[str, int]) -> None:
    code = """
import ast, os, subprocess, sys; from conftest import closure_of; from pytest_nsjail.image.store import Store
from pytest_nsjail.errors import SetupError
subprocess.run(["mount", "-t", "tmpfs", "-o", sys.argv[2], "none", sys.argv[1]], check=True)
store = Store(sys.argv[1] + "/store")
store.rootfs(closure_of({"/small": b"x"})).close()
try: store.rootfs(closure_of({path: b"x" * size for path, size in ast.literal_eval(sys.argv[3]).items()}))
except SetupError as error: print(error, os.listdir(store.directory + "/tmp"), len(os.listdir(store.directory + "/roots")))
"""
    out, err = python(code, tmp_path, options, files, wrapped=mounting).communicate(timeout=60)
    assert err == ""
    assert "copy its text to /" in out
    assert "(No space left on device, errno 28). Free some space or inodes there, or name another directory with --nsjail-store" in out
    assert out.endswith("[] 1\n")
    assert os.listdir(tmp_path) == []


def test_prune_keeps_what_is_young_and_what_is_used(store: Store, closure_of: ClosureOf, python: Python) -> None:
    old, young, used = (store.rootfs(closure_of({"/file": content})) for content in (b"old", b"young", b"used"))
    for rootfs in (old, used):
        os.utime(os.path.dirname(rootfs.path) + "/used", (0, 0))
    old.close()
    young.close()
    assert store.prune(3600) == (old.manifest.digest,)
    assert sorted(os.listdir(f"{store.directory}/roots")) == sorted([young.manifest.digest, used.manifest.digest])
    del rootfs, used
    assert len(store.prune(3600)) == 1, "a root that nobody has any more is not in use"
    assert left(store) == []


def test_asking_for_a_root_is_using_it(store: Store, closure_of: ClosureOf) -> None:
    closure = closure_of({"/file": b"x"})
    rootfs = store.rootfs(closure)
    os.utime(os.path.dirname(rootfs.path) + "/used", (0, 0))
    rootfs.close()
    store.rootfs(closure).close()
    assert store.prune(3600) == ()


def test_a_forked_childs_end_does_not_lose_the_parents_root(tmp_path: Path, python: Python) -> None:
    code = """
import os, sys; from conftest import closure_of; from pytest_nsjail.image.store import Store
store = Store(sys.argv[1]); rootfs = store.rootfs(closure_of({"/file": b"x"}))
child = os.fork()
if child == 0:
    rootfs.close(); os._exit(0)
os.waitpid(child, 0)
print(len(store.prune(0)), end=" ")
rootfs.close()
print(len(store.prune(0)))
"""
    assert python(code, tmp_path / "store").communicate(timeout=60) == ("0 1\n", "")


def test_prune_and_use_at_once(tmp_path: Path, python: Python) -> None:
    code = """
import os, sys; from conftest import closure_of; from pytest_nsjail.image.store import Store
store, closure = Store(sys.argv[1]), closure_of({f"/f{n}": b"x" for n in range(20)})
for _ in range(60):
    root = store.rootfs(closure)
    for _ in range(5): assert len(os.listdir(root.path)) == 20, os.listdir(root.path)
    root.close()
    if sys.argv[2] == "prune": store.prune(0)
print("fine")
"""
    processes = [python(code, tmp_path / "store", "prune" if number % 2 else "use") for number in range(4)]
    assert [process.communicate(timeout=120) for process in processes] == [("fine\n", "")] * 4


def test_everything_in_the_store_says_what_it_is(store: Store, closure_of: ClosureOf) -> None:
    rootfs = store.rootfs(closure_of({"/file": b"x"}))
    manifest = Path(rootfs.path).parent / "manifest.json"
    assert type(rootfs.manifest).from_json(manifest.read_text()) == rootfs.manifest
    assert Path(store.directory, "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    with pytest.raises(NsjailError, match="no image manifest"):
        type(rootfs.manifest).from_json("{}")

"""A manifest says what an image is, and its digest changes with all that matters and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_nsjail.errors import NsjailError, ResolveError
from pytest_nsjail.fileview import Kind
from pytest_nsjail.image.manifest import Manifest
from pytest_nsjail.resolve.entry import Closure, Entry

ClosureOf = Callable[[dict[str, object]], Closure]


@pytest.fixture
def closure(closure_of: ClosureOf) -> Closure:
    return closure_of({"/usr/bin/tool": b"x" * 2048, "/bin": "usr/bin", "/etc/empty": None, "/etc/caf\udce9": b"y"})


def with_(closure: Closure, path: str, **changes: object) -> Manifest:
    return Manifest.of(Closure({**closure.entries, path: replace(closure.entries[path], **changes)}))  # type: ignore[arg-type]


def test_the_digest_is_of_what_a_jail_can_see(closure: Closure) -> None:
    digest = Manifest.of(closure).digest
    assert len(digest) == 64
    assert Manifest.of(Closure(dict(reversed(list(closure.entries.items()))))).digest == digest
    assert with_(closure, "/usr/bin/tool", wanted_by=("another",)).digest == digest
    assert with_(closure, "/usr/bin/tool", mtime_ns=999_999_999).digest == digest
    others = [
        with_(closure, "/usr/bin/tool", content=b"z").digest, with_(closure, "/usr/bin/tool", mode=0o755).digest,
        with_(closure, "/usr/bin/tool", mtime_ns=10**9).digest, with_(closure, "/bin", target="usr/sbin").digest,
        with_(closure, "/etc/empty", mode=0o700).digest, with_(closure, "/etc/empty", kind=Kind.FILE).digest,
        Manifest.of(Closure({path: entry for path, entry in closure.entries.items() if path != "/bin"})).digest,
    ]
    assert len({digest, *others}) == 8


def test_files_and_size(closure: Closure) -> None:
    manifest = Manifest.of(closure)
    assert {path: (entry.size, entry.kind) for path, entry in manifest.files.items()} == {
        "/usr/bin/tool": (2048, Kind.FILE), "/bin": (0, Kind.SYMLINK), "/etc/caf\udce9": (1, Kind.FILE)}
    assert manifest.files["/bin"].wanted_by == ("Symlink('/bin')",)
    assert manifest.size == 2049


def test_tree_is_for_people(closure: Closure) -> None:
    assert Manifest.of(closure).tree().splitlines() == [
        "   SIZE  PATH             KIND     WANTED BY",
        "2.0 KiB  /usr/bin/tool    file     Text('/usr/bin/tool')",
        "    1 B  /etc/caf\\udce9   file     Text('/etc/caf\\udce9')",
        "      -  /bin -> usr/bin  symlink  Symlink('/bin')",
        "2.0 KiB in 2 files, 1 symlink, 5 directories",
    ]


def test_json_there_and_back(closure: Closure) -> None:
    manifest = Manifest.of(closure)
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    assert text.isascii()
    for broken in ("", "[]", "{", "null", text[:-9], json.dumps({**json.loads(text), "entries": [{"path": "/"}]}), "[" * 100_000):
        with pytest.raises(NsjailError, match="no image manifest"):
            Manifest.from_json(broken)
    with pytest.raises(NsjailError, match="changed after it was written"):
        Manifest.from_json(text.replace("usr/bin", "usr/bim"))


def test_a_device_is_no_entry() -> None:
    with pytest.raises(ResolveError, match=r"/dev/null is a device, wanted by me"):
        Manifest.of(Closure({"/dev": Entry("/dev", Kind.DIRECTORY, 0o755, ()), "/dev/null": Entry("/dev/null", Kind.DEVICE, 0o666, ("me",))}))


def test_hard_links_are_part_of_it(tmp_path: Path, closure_of: ClosureOf) -> None:
    (tmp_path / "a").touch()
    os.link(tmp_path / "a", tmp_path / "b")
    manifest = Manifest.of(closure_of({"/x": tmp_path / "a", "/y": tmp_path / "b"}))
    assert [entry.link for entry in manifest.entries] == ["", "", "/x"]

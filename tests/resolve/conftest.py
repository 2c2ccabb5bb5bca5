"""A file system in memory, ELF files made of words, and a laboratory with a real compiler."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from pytest_nsjail.fileview import Kind, Stat
from pytest_nsjail.image.host import HostView

_devices = itertools.count(1)


class MemoryView:
    """``str``: a file (``-> x``: a symlink to x). ``bytes``: an executable. None: a directory. A Kind: that. A tuple adds the mode."""

    def __init__(self, files: Mapping[str, object]) -> None:
        self.nodes: dict[str, tuple[Kind, int, bytes]] = {"/": (Kind.DIRECTORY, 0o755, b"")}
        self.device = -next(_devices) - 100  # no two views share an inode, and none is the host's
        for path, value in files.items():
            value, mode = value if isinstance(value, tuple) else (value, None)
            for parent in itertools.accumulate(path.split("/")[1:-1], lambda one, other: f"{one}/{other}", initial=""):
                if parent:
                    self.nodes.setdefault(parent, (Kind.DIRECTORY, 0o755, b""))
            if isinstance(value, str) and value.startswith("-> "):
                node = (Kind.SYMLINK, 0o777, value[3:].encode())
            elif isinstance(value, (str, bytes)):
                node = (Kind.FILE, 0o755 if isinstance(value, bytes) else 0o644, value if isinstance(value, bytes) else value.encode())
            else:
                node = (value or Kind.DIRECTORY, 0o755, b"")
            self.nodes[path] = node if mode is None else (node[0], mode, node[2])

    def lstat(self, path: str) -> Stat | None:
        node = self.nodes.get(path)
        return node and Stat(node[0], node[1], len(node[2]), 5, (self.device, list(self.nodes).index(path)))

    def readlink(self, path: str) -> str:
        kind, _, data = self.nodes[path]
        assert kind is Kind.SYMLINK
        return data.decode()

    def listdir(self, path: str) -> list[str]:
        return sorted(name.rpartition("/")[2] for name in self.nodes if name != "/" and os.path.dirname(name) == path)

    def open(self, path: str) -> io.BytesIO:
        kind, mode, data = self.nodes[path]
        if not mode & 0o444:
            raise PermissionError(13, "Permission denied", path)
        assert kind is Kind.FILE
        return io.BytesIO(data)


def make_elf(
    needed: Sequence[str] = (), *, interp: str | None = None, soname: str | None = None, rpath: str | None = None, runpath: str | None = None,
    filters: Sequence[str] = (), auxiliaries: Sequence[str] = (), nodeflib: bool = False, requires: Mapping[str, Sequence[str]] | None = None,
    defines: Sequence[str] = (), machine: int = 62, bits: int = 64, little: bool = True, osabi: int = 0, kind: int = 3, rodata: bytes = b"",
) -> bytes:
    """An ELF file with just what a loader reads of it, in one segment at address 0."""
    order, wide = "<" if little else ">", bits == 64
    strings = bytearray(b"\0")

    def string(text: str) -> int:
        offset = len(strings)
        strings.extend(text.encode() + b"\0")
        return offset

    tags: list[tuple[int, int]] = [(1, string(name)) for name in needed]
    tags += [(0x7FFFFFFF, string(name)) for name in filters] + [(0x7FFFFFFD, string(name)) for name in auxiliaries]
    tags += [(tag, string(text)) for tag, text in ((14, soname), (15, rpath), (29, runpath)) if text is not None]
    tags += [(0x6FFFFFFB, 0x800)] if nodeflib else []
    verneed, verdef = b"", b""
    for index, (file, versions) in enumerate((requires or {}).items()):
        last = index == len(requires or {}) - 1
        verneed += struct.pack(order + "HHLLL", 1, len(versions), string(file), 16, 0 if last else 16 + 16 * len(versions))
        for place, version in enumerate(versions):
            weak = version.startswith("weak ")
            verneed += struct.pack(order + "LHHLL", 0, 2 if weak else 0, 2, string(version.removeprefix("weak ")), 0 if place == len(versions) - 1 else 16)
    for place, version in enumerate(defines):
        verdef += struct.pack(order + "HHHHLLL", 1, 0, place, 1, 0, 20, 0 if place == len(defines) - 1 else 28) + struct.pack(order + "LL", string(version), 0)
    header, phdr, entry = (64, 56, 16) if wide else (52, 32, 8)
    count = 2 + (interp is not None)
    dynamic_at = header + phdr * count
    size = entry * (len(tags) + 7)
    need_at = dynamic_at + size
    def_at = need_at + len(verneed)
    str_at = def_at + len(verdef)
    interp_at = str_at + len(strings)
    tags += [(5, str_at), (10, len(strings))]
    tags += [(0x6FFFFFFE, need_at), (0x6FFFFFFF, len(requires))] if requires else []
    tags += [(0x6FFFFFFC, def_at), (0x6FFFFFFD, len(defines))] if defines else []
    dynamic = b"".join(struct.pack(order + ("QQ" if wide else "LL"), *tag) for tag in tags).ljust(size, b"\0")
    tail = (interp.encode() + b"\0") if interp is not None else b""
    total = interp_at + len(tail) + len(rodata)

    def segment(kind_: int, offset: int, length: int) -> bytes:
        if wide:
            return struct.pack(order + "LLQQQQQQ", kind_, 5, offset, offset, offset, length, length, 8)
        return struct.pack(order + "LLLLLLLL", kind_, offset, offset, offset, length, length, 5, 4)

    segments = ([segment(3, interp_at, len(tail))] if interp is not None else []) + [segment(1, 0, total), segment(2, dynamic_at, size)]
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if little else 2, 1, osabi]) + bytes(8)
    head = ident + struct.pack(order + ("HHLQQQLHHHHHH" if wide else "HHLLLLLHHHHHH"), kind, machine, 1, 0, header, 0, 0, header, phdr, count, 0, 0, 0)
    return head + b"".join(segments) + dynamic + verneed + verdef + bytes(strings) + tail + rodata


LOADER = "/lib64/ld-linux-x86-64.so.2"


@pytest.fixture(scope="session")
def memory() -> Callable[[Mapping[str, object]], MemoryView]:
    return MemoryView


@pytest.fixture(scope="session")
def small_elf() -> Callable[..., bytes]:
    return make_elf


@pytest.fixture(scope="session")
def glibc() -> dict[str, object]:
    """A merged /usr with a loader and a libc."""
    return {
        "/lib": "-> usr/lib", "/lib64": "-> usr/lib64", "/bin": "-> usr/bin",
        "/usr/lib64/ld-linux-x86-64.so.2": make_elf(soname="ld-linux-x86-64.so.2", rodata=b"\0/lib/\0/usr/lib/\0\0LIB\0lib\0"),
        "/usr/lib/libc.so.6": make_elf(["ld-linux-x86-64.so.2"], soname="libc.so.6", defines=["libc.so.6", "GLIBC_2.2.5", "GLIBC_2.36"]),
        "/usr/bin/tool": make_elf(["libc.so.6"], interp=LOADER, requires={"libc.so.6": ["GLIBC_2.2.5"]}),
        "/usr/bin/sh": make_elf(["libc.so.6"], interp=LOADER),
        "/usr/bin/env": make_elf(["libc.so.6"], interp=LOADER),
    }


@pytest.fixture(scope="session")
def host() -> HostView:
    return HostView()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """Hypothesis writes down what it reads of the sources, from here on: not into the working directory."""
    home = tempfile.TemporaryDirectory()
    set_hypothesis_home_dir(home.name)
    config.add_cleanup(home.cleanup)


class Lab:
    """A directory in which gcc and patchelf build what the loader is asked about."""

    def __init__(self, root: Path, compiler: str) -> None:
        self.root, self._compiler = Path(os.path.realpath(root)), compiler

    def path(self, name: str) -> str:
        return str(self.root / name)

    def library(self, name: str, *needs: str, soname: str | None = None, flags: Sequence[str] = (), **patch: str) -> str:
        """A shared library; ``needs`` are other files of the lab, NEEDED by their SONAME or path."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soname = path.name if soname is None else soname
        named = [f"-Wl,-soname,{soname}"] if soname else []
        self._run(self._compiler, "-shared", "-fPIC", "-o", str(path), str(self._source("int f(void){return 0;}")), *named, *self._linked(needs), *flags)
        self._patch(path, patch)
        return str(path)

    def program(self, name: str, *needs: str, flags: Sequence[str] = (), **patch: str) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._run(self._compiler, "-o", str(path), str(self._source("int main(void){return 0;}")), *self._linked(needs), *flags)
        self._patch(path, patch)
        return str(path)

    def patchelf(self, path: str, *options: str) -> None:
        self._run("patchelf", *options, path)

    def _source(self, text: str) -> Path:
        source = self.root / ("program.c" if "main" in text else "library.c")
        source.write_text(text)
        return source

    def _linked(self, needs: Sequence[str]) -> list[str]:
        return ["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined", "-Wl,--unresolved-symbols=ignore-all", *(str(self.root / need) for need in needs)]

    def _patch(self, path: Path, patch: Mapping[str, str]) -> None:
        # One option a call: patchelf 0.14 confuses its strings otherwise.
        for tag, value in patch.items():
            self.patchelf(str(path), *(["--force-rpath"] if tag == "rpath" else []), "--set-rpath", value)

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd="/")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    for tool in ("gcc", "patchelf"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    return Lab(tmp_path, "gcc")


@pytest.fixture
def musl_lab(tmp_path: Path) -> Lab:
    for tool in ("musl-gcc", "patchelf"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    return Lab(tmp_path, "musl-gcc")

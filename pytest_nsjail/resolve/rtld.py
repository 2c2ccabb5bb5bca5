"""What a glibc loader was built with: read from its own file, because every distribution differs and none says it elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_nsjail.fileview import FileView, Kind
from pytest_nsjail.resolve.elf import Binary
from pytest_nsjail.resolve.memo import Memo
from pytest_nsjail.resolve.walk import Walker

# elf/dl-load.c: system_dirs is one NUL-separated run of directories, each with its slash at the end.
_DIRECTORIES = re.compile(rb"(?:/(?:[!-.0-~]+/)*lib[!-~]*/\0){1,16}")
# elf/dl-load.c, compared in this order: "ORIGIN", "PLATFORM", "LIB"; DL_DST_LIB follows them.
_LIB = re.compile(rb"\0LIB\0(lib[!-~]*)\0")
_LEGACY = b"Legacy HWCAP subdirectories"  # of its own --help
_CACHE = re.compile(rb"\0(/[!-~]*/ld\.so\.cache)\0")
_DEFAULT_64, _DEFAULT_32 = ("/lib64", "/usr/lib64", "/lib", "/usr/lib"), ("/lib", "/usr/lib")
_TRIPLETS = {
    (62, 64): "x86_64-linux-gnu", (3, 32): "i386-linux-gnu", (183, 64): "aarch64-linux-gnu", (40, 32): "arm-linux-gnueabihf",
    (243, 64): "riscv64-linux-gnu", (22, 64): "s390x-linux-gnu", (21, 64): "powerpc64le-linux-gnu",
}
# The loader that a shared library of this machine expects, when it is declared without a program.
_USUAL = {
    (62, 64): "/lib64/ld-linux-x86-64.so.2", (3, 32): "/lib/ld-linux.so.2", (183, 64): "/lib/ld-linux-aarch64.so.1", (40, 32): "/lib/ld-linux-armhf.so.3",
    (243, 64): "/lib/ld-linux-riscv64-lp64d.so.1", (22, 64): "/lib/ld64.so.1", (21, 64): "/lib64/ld64.so.2", (258, 64): "/lib64/ld-linux-loongarch-lp64d.so.1",
}


@dataclass(frozen=True)
class Rtld:
    """One glibc ``ld.so``.

    :param directories: where it looks last, without slashes at the end.
    :param lib: what ``$LIB`` means.
    :param cache: its cache file.
    :param legacy: whether it searches the subdirectories that glibc 2.37 forgot: tls, haswell, x86_64.
    """

    directories: tuple[str, ...]
    lib: str
    cache: str = "/etc/ld.so.cache"
    legacy: bool = False


def usual(binary: Binary) -> str:
    """The path of the glibc loader for a library that names none; empty for a machine that is not known."""
    return _USUAL.get((binary.machine, binary.bits), "")


def usual_directories(binary: Binary) -> tuple[str, ...]:
    """Where loaders of this architecture look: Debian's directories and everybody else's."""
    triplet = _TRIPLETS.get((binary.machine, binary.bits))
    own = (f"/lib/{triplet}", f"/usr/lib/{triplet}") if triplet else ()
    return own + (_DEFAULT_64 if binary.bits == 64 else _DEFAULT_32)


def facts(data: bytes, binary: Binary) -> Rtld:
    """What the bytes of a loader tell, and the usual where they do not."""
    runs = [tuple(part.decode().rstrip("/") for part in run.split(b"\0") if part) for run in _DIRECTORIES.findall(data)]
    directories = max(runs, key=len, default=()) or usual_directories(binary)
    lib, cache = _LIB.search(data), _CACHE.search(data)
    # Else the first directory tells: it is /lib, /lib64 or Debian's /lib/<triplet>, with or without a prefix.
    token = lib[1].decode() if lib else directories[0][directories[0].find("/lib") + 1 :]
    return Rtld(directories, token, cache[1].decode() if cache else "/etc/ld.so.cache", _LEGACY in data)


_known: Memo[Rtld] = Memo()


def read(path: str, binary: Binary, walker: Walker) -> Rtld:
    """The facts of the loader at ``path``; the usual ones where there is none."""
    walk = walker.walk(path) if path else None
    if walk is None or walk.stat is None or walk.stat.kind is not Kind.FILE:
        return facts(b"", binary)
    return _known.get(walk.stat, lambda: facts(_bytes(walk.final, walker.view), binary))


def _bytes(path: str, view: FileView) -> bytes:
    with view.open(path) as file:
        return file.read()

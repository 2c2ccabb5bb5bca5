"""Where root file systems are kept: one directory per digest, built once, never written again.

    <store>/roots/<digest>/root             the root file system
                           manifest.json    what is in it; it is there if and only if the root is whole
                           lock             locked (shared) by every process that uses the root
                           used             its mtime is the last use
    <store>/tmp/<digest>                    a root that is being built
    <store>/tmp/<digest>.lock               locked by its builder
    <store>/tmp/<digest>-<random>           a root that is being removed
    <store>/digests                         what host files hold
    <store>/stage                           empty: each jail mounts its own tmpfs there, in its own mount namespace

A root is built in tmp/ and appears in roots/ by one rename(2); it leaves by another. Whatever is in tmp/ and has no living owner is
the remains of a crash, and the next Store removes it.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, field

from pytest_nsjail.image import lock, tree
from pytest_nsjail.image.build import build, refusal
from pytest_nsjail.image.digests import Digests
from pytest_nsjail.image.manifest import Manifest
from pytest_nsjail.resolve.entry import Closure

# bford.info/cachedir: backup programs leave such a directory out.
_CACHEDIR_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# This is the cache of pytest-nsjail; it may be removed at any time.\n"


@dataclass(frozen=True, eq=False)
class Rootfs:
    """A root file system in the store, which is not pruned while this object exists. Never to be written to.

    :param path: its directory, absolute.
    :param manifest: what is in it, and who wanted it.
    """

    path: str
    manifest: Manifest
    _use: lock.Lock = field(repr=False)

    def close(self) -> None:
        """Say that it is not used any more; it may be pruned."""
        self._use.close()


class Store:
    """A directory of root file systems, shared by every process of one user.

    :param directory: made where it does not exist.
    :raises SetupError: where it cannot be used: another user's, writable by all, full, read-only.
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.realpath(directory)
        self._roots = f"{self.directory}/roots"
        self._tmp = f"{self.directory}/tmp"
        try:
            os.makedirs(os.path.dirname(self.directory), exist_ok=True)
            for path in (self.directory, self._roots, self._tmp):
                tree.own(path)
            self._tag()
            self._clean()
        except OSError as error:
            raise refusal("open the store", error, self.directory) from error
        self._digests = Digests(f"{self.directory}/digests")

    def rootfs(self, closure: Closure) -> Rootfs:
        """The root file system of a closure; built where the store does not have it.

        Any number of threads and processes may ask at once: one builds, the others wait for it.

        :raises ResolveError: for a closure that is no tree.
        :raises SetupError: for a file that cannot be read or that changes meanwhile, and for a store that cannot take it.
        """
        manifest = Manifest.of(closure, self._digests)
        while True:
            try:
                use = self._use(manifest.digest)
                if use:
                    return Rootfs(f"{self._roots}/{manifest.digest}/root", manifest, use)
                self._build(closure, manifest)
            except OSError as error:
                raise refusal(f"build the root file system {manifest.digest}", error, self.directory) from error

    def prune(self, older_than_seconds: float) -> tuple[str, ...]:
        """Remove what no process uses, and none has asked for in that time.

        :param older_than_seconds: 0 removes all that is not in use.
        :return: the digests of the roots that were removed, sorted.
        :raises SetupError: where the store cannot be read or written.
        """
        try:
            self._clean()
            return tuple(digest for digest in sorted(os.listdir(self._roots)) if self._prune(digest, older_than_seconds))
        except OSError as error:
            raise refusal("prune the store", error, self.directory) from error

    def _tag(self) -> None:
        try:
            tree.write(f"{self.directory}/CACHEDIR.TAG", _CACHEDIR_TAG)
        except FileExistsError:
            pass

    def _use(self, digest: str) -> lock.Lock | None:
        """The lock of a user, or None where there is no whole root."""
        published = f"{self._roots}/{digest}"
        use = lock.shared(f"{published}/lock") if _whole(published) else None
        if use:
            tree.touch(f"{published}/used")
        return use

    def _build(self, closure: Closure, manifest: Manifest) -> None:
        published, new = f"{self._roots}/{manifest.digest}", f"{self._tmp}/{manifest.digest}"
        with lock.building(f"{new}.lock"):
            if _whole(published):
                return  # another builder was first
            self._take_out(published)
            tree.remove(new)
            try:
                tree.make(new)
                build(closure, manifest, f"{new}/root")
                for name, text in (("lock", ""), ("used", ""), ("manifest.json", manifest.to_json())):
                    tree.write(f"{new}/{name}", text)
                os.rename(new, published)
            except BaseException:
                tree.remove(new)
                raise

    def _prune(self, digest: str, older_than_seconds: float) -> bool:
        published = f"{self._roots}/{digest}"
        free, held = _unused(published)
        try:
            return free and time.time() - _last_use(published) >= older_than_seconds and self._take_out(published, held)
        except FileNotFoundError:
            return False  # another process was faster
        finally:
            if held:
                held.close()

    def _take_out(self, published: str, held: lock.Lock | None = None) -> bool:
        """Take a root, whole or damaged, out of roots/ in one step, then remove it: now, or when its last user is gone.

        :param held: the exclusive lock on it, where the caller has one.
        """
        if not os.path.lexists(published):
            return False
        gone = f"{self._tmp}/{os.path.basename(published)}-{secrets.token_hex(8)}"
        os.rename(published, gone)
        if held:
            tree.remove(gone)
        else:
            _remove_unused(gone)
        return True

    def _clean(self) -> None:
        """Remove what builders and removers left behind that did not live to the end."""
        for name in {name.removesuffix(".lock") for name in os.listdir(self._tmp)}:
            with lock.building(f"{self._tmp}/{name}.lock", wait=False) as free:
                if free:
                    _remove_unused(f"{self._tmp}/{name}")


def _whole(root: str) -> bool:
    return all(tree.is_real(f"{root}/{name}") for name in ("", "root")) and all(os.path.isfile(f"{root}/{name}") for name in ("lock", "manifest.json"))


def _unused(root: str) -> tuple[bool, lock.Lock | None]:
    """Whether no process uses a root, and the lock that keeps it so; None where it is so damaged that there is no lock to hold."""
    path = f"{root}/lock"
    held = lock.alone(path) if tree.is_real(root) else None
    return held is not None or not tree.is_real(root) or not os.path.lexists(path), held


def _remove_unused(root: str) -> None:
    free, held = _unused(root)
    try:
        if free:
            tree.remove(root)
    finally:
        if held:
            held.close()


def _last_use(root: str) -> float:
    try:
        return os.lstat(f"{root}/used").st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return os.lstat(root).st_mtime

"""What a user holds of an image, and of a build stage that ran in one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_nsjail.errors import ProgramFailed
from pytest_nsjail.fileview import FileView
from pytest_nsjail.image.layer import LayerView
from pytest_nsjail.image.manifest import ManifestEntry
from pytest_nsjail.image.rooted import RootedView
from pytest_nsjail.image.store import Rootfs
from pytest_nsjail.runtime.result import Result
from pytest_nsjail.spec.check import StrPath
from pytest_nsjail.spec.jail import ImageSpec


class Image:
    """A scratch root file system, built.

    :ivar spec: what was declared.
    :ivar rootfs: its directory in the store.
    :ivar view: the root file system itself. Results look at it too: they may be many, and descriptors are few.
    """

    def __init__(self, spec: ImageSpec, rootfs: Rootfs, run: Callable[..., Result]) -> None:
        self.spec, self.rootfs = spec, rootfs
        self.view = RootedView(rootfs.path)
        self._run = run

    @property
    def digest(self) -> str:
        """The SHA-256 of its content, in hexadecimal: every path, mode, time and byte."""
        return self.rootfs.manifest.digest

    @property
    def size(self) -> int:
        """The bytes of all its files together."""
        return self.rootfs.manifest.size

    @property
    def files(self) -> Mapping[str, ManifestEntry]:
        """Every file and symlink by its path: its size, its kind, and who wanted it."""
        return self.rootfs.manifest.files

    def tree(self) -> str:
        """A table of its files, largest first."""
        return self.rootfs.manifest.tree()

    def stage(self, argv: Iterable[StrPath], **options: Any) -> Stage:
        """Run a build step in this image; what it wrote can be carried into another by :class:`Copy`.

        :param argv: the program and its arguments.
        :param options: as of ``nsjail_run``.
        :raises ProgramFailed: where it does not exit with 0.
        """
        result = self._run(argv, image=self, **options)
        if not result.ok:
            raise ProgramFailed(result.report())
        return Stage(result, self)

    def __repr__(self) -> str:
        return f"<Image {self.spec.name or self.digest[:12]}: {len(self.files)} files, {self.size} bytes>"


class Stage:
    """A build step that has run. Its processes and mounts are gone; what it wrote is kept in memory as long as this value is.

    :ivar result: how the step went.
    """

    def __init__(self, result: Result, image: Image) -> None:
        self.result = result
        self._rootfs = image.rootfs  # held: the store must not prune what the view reads
        self._view: FileView = image.view if result.changes.layer is None else LayerView(result.changes.layer, image.view)

    @property
    def view(self) -> FileView:
        """The root file system as the step left it."""
        return self._view

    def __repr__(self) -> str:
        return f"<Stage {shlex.join(self.result.argv)}>"

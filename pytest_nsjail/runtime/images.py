"""From a declaration to an image: what it depends on resolved, and the store asked for what that makes."""

from __future__ import annotations

from collections.abc import Callable

from pytest_nsjail.fileview import Stat
from pytest_nsjail.image.host import HostView
from pytest_nsjail.image.store import Store
from pytest_nsjail.kernel import cpu
from pytest_nsjail.resolve.closure import resolve
from pytest_nsjail.resolve.entry import Closure, Content
from pytest_nsjail.resolve.inside import ClosureView
from pytest_nsjail.resolve.program import program
from pytest_nsjail.resolve.walk import Walker
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.result import Result
from pytest_nsjail.spec.dependency import Directory
from pytest_nsjail.spec.jail import ImageSpec


class Images:
    """The images of a session.

    :param run: runs a program in one, for its build stages.
    """

    def __init__(self, store: Store, run: Callable[..., Result]) -> None:
        self._store, self._run = store, run
        self._implicit: dict[str, tuple[Image, tuple[tuple[str, Stat], ...]]] = {}

    def build(self, spec: ImageSpec) -> Image:
        """The image that was declared.

        :raises ResolveError: for a declaration that this host cannot satisfy.
        :raises SetupError: where the store cannot take it.
        """
        return self._build(spec)[0]

    def closure_of(self, path: str) -> Image:
        """The image of a program alone: kept for the next time, and built anew when a file of it has changed."""
        host = HostView()
        image, files = self._implicit.get(path, (None, ()))
        if image is None or any(host.lstat(file) != stat for file, stat in files):
            image, closure = self._build(ImageSpec((program(path, host),)))
            contents = [entry.content for entry in closure if isinstance(entry.content, Content)]
            self._implicit[path] = image, tuple((content.path, stat) for content in contents if (stat := host.lstat(content.path)))
        return image

    def _build(self, spec: ImageSpec) -> tuple[Image, Closure]:
        closure = resolve(spec.dependencies, HostView(), cpu_levels=cpu.levels())
        if spec.workdir and spec.workdir != "/" and Walker(ClosureView(closure.entries)).walk(spec.workdir).stat is None:
            closure = resolve((*spec.dependencies, Directory(spec.workdir)), HostView(), cpu_levels=cpu.levels())
        return Image(spec, self._store.rootfs(closure), self._run), closure

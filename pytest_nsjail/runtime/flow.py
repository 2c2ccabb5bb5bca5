"""The order of things, on one page: a session's ground, and on it programs and cells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from pytest_nsjail.jail.keeper import Keeper
from pytest_nsjail.runtime.cell import Cell
from pytest_nsjail.runtime.cells import Cells
from pytest_nsjail.runtime.ground import Ground
from pytest_nsjail.spec.check import StrPath, known
from pytest_nsjail.spec.dependency import Dependency
from pytest_nsjail.spec.isolated import IsolatedSpec
from pytest_nsjail.spec.jail import ImageOptions, ImageSpec, JailSpec, Options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pytest_nsjail.network.network import Network
    from pytest_nsjail.runtime.image import Image
    from pytest_nsjail.runtime.jail import Jail
    from pytest_nsjail.runtime.programs import Programs
    from pytest_nsjail.runtime.result import Result

Adjust = Callable[[JailSpec], JailSpec]
Finished = Callable[[JailSpec, "Result"], None]


class Runtime:
    """What one pytest session needs of this package; leaving it as a context manager ends every jail.

    :param store: the directory of the store.
    :param adjust: may change every declaration before it is looked at.
    :param finished: sees every result.
    :param echo: two descriptors on which what programs write to their standard output and error is repeated as it comes, or None.
    :param keeper: one that was started ahead; owned from now on.
    """

    def __init__(
        self, store: str, *, adjust: Adjust = lambda spec: spec, finished: Finished = lambda spec, result: None,
        echo: tuple[int, int] | None = None, keeper: Keeper | None = None,
    ) -> None:
        self._adjust, self._finished, self._echo = adjust, finished, echo
        self._ground = Ground(store, keeper)
        self._cells = Cells(self._ground, lambda spec: self._programs.build(spec))
        self._made: Programs | None = None
        self._lock = threading.Lock()

    @property
    def _programs(self) -> Programs:
        # Not before there is one: what they take to import, isolated tests alone do without, and each of them forks what is imported.
        from pytest_nsjail.runtime.programs import Programs

        with self._lock:
            if self._made is None:
                self._made = Programs(self._ground, adjust=self._adjust, finished=self._finished, echo=self._echo)
            return self._made

    def begin(self) -> None:
        """Wait until jails can be asked for.

        :raises SetupError: with the step that the kernel refuses, and the way out.
        """
        self._ground.launcher.begin()

    def check(self) -> None:
        """See that jails can be made here: one over an empty image, which does everything but execute a program.

        :raises SetupError: with the step that the kernel refuses, and the way out.
        """
        self._programs.check()

    def image(self, *dependencies: Dependency, **options: Unpack[ImageOptions]) -> Image:
        """Build an image; see :class:`ImageSpec`.

        :raises SpecError: for a declaration that cannot be meant.
        :raises ResolveError: for one that this host cannot satisfy.
        :raises SetupError: where the store cannot take it.
        """
        known("nsjail_image()", options, ImageOptions.__annotations__)
        return self._programs.build(ImageSpec.declared(*dependencies, **options))

    def run(self, argv: Iterable[StrPath], *, image: Image | None = None, check: bool = False, **options: Unpack[Options]) -> Result:
        """Run a program in a jail and wait for its end.

        :param options: see :class:`JailSpec`.
        :param check: whether anything but an exit with 0 is an error.
        :raises SpecError: for a declaration that cannot be meant.
        :raises ResolveError: for one that this host cannot satisfy.
        :raises SetupError: where the kernel refuses a step of making the jail.
        :raises Unsupported: for what this host cannot give.
        :raises ProgramFailed: with ``check``.
        """
        return self._programs.run(argv, image=image, check=check, **options)

    def start(self, argv: Iterable[StrPath], *, image: Image | None = None, **options: Unpack[Options]) -> Jail:
        """Start a program in a jail and return when it is ready; as :meth:`run` otherwise. Whoever asks for it stops it.

        :raises NotReady: where it ended before it was ready, or was not ready in time; it is stopped then.
        """
        return self._programs.start(argv, image=image, **options)

    def network(self, name: str | None = None) -> Network:
        """A switch for several jails. Whoever asks for it closes it.

        :param name: unlike any other's of this session; None: one by its number.
        :raises SpecError: for a name that another one has, or that is none.
        :raises SetupError: where the kernel makes no switch.
        """
        return self._programs.network(name)

    def cell(self, spec: IsolatedSpec, *, project: str, writable: Iterable[str]) -> Cell:
        """A jail for a process that is forked from this one.

        :param project: the directory that the test sees as it is and may write to; what it writes there is gone with the jail.
        :param writable: directories of the host that stay writable, besides the declared ones.
        :raises SpecError: for a declaration that cannot be meant here.
        :raises SetupError: where the kernel refuses a step of making the jail.
        :raises Unsupported: for what this host cannot give.
        """
        return self._cells.cell(spec, project=project, writable=writable)

    def ahead(self) -> None:
        """Have the next jail prepared before it is asked for."""
        self._ground.launcher.ahead()

    def close(self) -> None:
        """End every jail, and remove from the store what nobody has asked for in a month."""
        self._cells.close()
        if self._made:
            self._made.close()
        self._ground.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

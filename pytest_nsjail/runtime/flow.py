"""The flow, on one page: declare, resolve, build, plan, launch, and see what happened."""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING
from weakref import WeakSet

from pytest_nsjail.errors import ProgramFailed, SetupError, SpecError, Unsupported
from pytest_nsjail.fileview import FileView
from pytest_nsjail.image.store import Store
from pytest_nsjail.jail.bounds import bound
from pytest_nsjail.jail.handle import Handle
from pytest_nsjail.jail.keeper import Keeper
from pytest_nsjail.jail.launcher import Launcher
from pytest_nsjail.jail.plan import Source, plan
from pytest_nsjail.kernel import idmap
from pytest_nsjail.kernel.hierarchy import own_hierarchy
from pytest_nsjail.network.bound import bind
from pytest_nsjail.network.network import Network
from pytest_nsjail.network.publisher import Publication, Publisher
from pytest_nsjail.runtime import volumes
from pytest_nsjail.runtime.cell import Cell
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.images import Images
from pytest_nsjail.runtime.isolation import Isolations
from pytest_nsjail.runtime.jail import Jail
from pytest_nsjail.runtime.networks import Networks
from pytest_nsjail.runtime.order import command
from pytest_nsjail.runtime.result import Result
from pytest_nsjail.runtime.settle import Identity, check_program, check_sources, identify, root_view
from pytest_nsjail.spec.check import StrPath
from pytest_nsjail.spec.dependency import Dependency
from pytest_nsjail.spec.isolated import IsolatedSpec
from pytest_nsjail.spec.jail import ImageSpec, JailSpec, Options

if TYPE_CHECKING:
    from typing_extensions import Unpack

# How long the store keeps what nobody asks for, in seconds.
_KEPT = 30 * 24 * 3600.0

# A jail without a program: to execute the root directory is refused, and by then all else was not.
_NOTHING = JailSpec(("/",))

Adjust = Callable[[JailSpec], JailSpec]
Finished = Callable[[JailSpec, Result], None]


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
        self._store = Store(store)
        stage = f"{self._store.directory}/stage"
        os.makedirs(stage, mode=0o700, exist_ok=True)
        # Not the pid alone: pytests in different pid namespaces may share their control groups.
        self._session = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._launcher = Launcher(stage, self._session, keeper)
        self._publisher = Publisher()
        self._hierarchy = own_hierarchy()
        self._initial = idmap.in_initial_namespace()
        self._adjust, self._finished, self._echo = adjust, finished, echo
        self._numbers = itertools.count(1)
        self._images = Images(self._store, self.run)
        self._cells: list[Cell] = []
        self._jails: WeakSet[Jail] = WeakSet()
        self._networks = Networks(self._launcher)
        self._isolations = Isolations(self._launcher.world, self._launcher.ids, self._images.build)
        self._settled: dict[tuple[object, ...], tuple[FileView, Identity]] = {}
        self._lock = threading.Lock()
        self._within = False  # a cell: jails are made beside it, and what they are given is what its test sees

    def check(self) -> None:
        """See that jails can be made here: one over an empty image, which does everything but execute a program.

        :raises SetupError: with the step that the kernel refuses, and the way out.
        """
        image = self._images.build(ImageSpec(()))
        view = image.view
        try:
            self._make(_NOTHING, image, view, identify(None, view, self._launcher.ids), {}, lambda spec, result: None).wait()
        finally:
            self._launcher.ahead()

    def image(
        self, *dependencies: Dependency, env: Mapping[str, str] | None = None, workdir: StrPath | None = None, user: str | int | None = None,
        entrypoint: Iterable[str] = (), cmd: Iterable[str] = (), name: str | None = None,
    ) -> Image:
        """Build an image; see :meth:`ImageSpec.declared`.

        :raises SpecError: for a declaration that cannot be meant.
        :raises ResolveError: for one that this host cannot satisfy.
        :raises SetupError: where the store cannot take it.
        """
        return self._images.build(ImageSpec.declared(*dependencies, env=env, workdir=workdir, user=user, entrypoint=entrypoint, cmd=cmd, name=name))

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
        if options.get("ready") is not None:
            argv = list(argv)
            instead = "Leave it out, or start the program: nsjail_start(..., ready=...)."
            raise SpecError(f"nsjail_run({argv!r})", f"ready={options['ready']!r} of a program that is waited for until its end", instead)
        jail = self._start(argv, image, options)
        try:
            result = jail.wait()
        finally:
            jail.close()
            self._launcher.ahead()
        if check and not result.ok:
            raise ProgramFailed(result.report())
        return result

    def start(self, argv: Iterable[StrPath], *, image: Image | None = None, **options: Unpack[Options]) -> Jail:
        """Start a program in a jail and return when it is ready; as :meth:`run` otherwise. Whoever asks for it stops it.

        :raises NotReady: where it ended before it was ready, or was not ready in time; it is stopped then.
        """
        jail = self._start(argv, image, options)
        self._launcher.ahead()
        if jail.spec.ready is not None:
            try:
                jail.until(jail.spec.ready)
            except Exception:
                # What it has said until now is shown with the test that wanted it.
                with suppress(SetupError):
                    jail.stop()
                raise
            except BaseException:
                jail.close()
                raise
        return jail

    def network(self, name: str | None = None) -> Network:
        """A switch for several jails. Whoever asks for it closes it.

        :param name: unlike any other's of this session; None: one by its number.
        :raises SpecError: for a name that another one has, or that is none.
        :raises SetupError: where the kernel makes no switch.
        """
        network = self._networks.make(name)
        self._launcher.ahead()
        return network

    def cell(self, spec: IsolatedSpec, *, project: str, writable: Iterable[str]) -> Cell:
        """A jail for a process that is forked from this one.

        :param project: the directory that the test sees as it is and may write to; what it writes there is gone with the jail.
        :param writable: directories of the host that stay writable, besides the declared ones.
        :raises SpecError: for a declaration that cannot be meant here.
        :raises SetupError: where the kernel refuses a step of making the jail.
        :raises Unsupported: for what this host cannot give.
        """
        with self._lock:
            world = self._launcher.world
            isolation = self._isolations.settle(spec, project, (*writable, self._store.directory))
            prepared = self._launcher.prepare(spec.network, isolation.steps, isolation.maps, opened=True)
            try:
                name = str(next(self._numbers))
                bounds = bound(spec.limits, self._hierarchy, session=self._session, name=name, exempt=self._exempt(isolation.maps, isolation.uid))
                if bounds.watch:
                    what = f"{spec.limits!r} for an isolated test: this host gives no control group for it"
                    raise Unsupported(what, "Run the code as a program, by nsjail_run(..., limits=...)")
            except BaseException:
                prepared.close()
                raise
        cell = Cell(
            prepared, world=world, user=isolation.user, env=isolation.env, bounds=bounds, limits=spec.limits, project=isolation.project,
            forked=self._disown, ahead=self._launcher.ahead,
        )
        self._cells = [other for other in self._cells if not other.reaped()] + [cell]
        return cell

    def _disown(self) -> None:
        """In the child of a cell: what is this process's no more, and what it sees: no control group that it could make one in."""
        self._launcher.disown()
        self._within, self._hierarchy = True, None

    def _exempt(self, maps: idmap.IdMap, uid: int) -> bool:
        """Whether a user of a jail's is the host's root by number, as root of a container is, too."""
        return self._initial and idmap.outside(self._launcher.ids.uids, idmap.outside(maps.uids, uid)) == 0

    def ahead(self) -> None:
        """Have the next jail prepared before it is asked for."""
        self._launcher.ahead()

    def close(self) -> None:
        """End every jail, and remove from the store what nobody has asked for in a month."""
        # A child of ours that nobody waited for would keep its jail, and that the zygote, for ever.
        for cell in self._cells:
            cell.close()
        self._networks.close()
        self._launcher.close()
        self._publisher.close()
        self._store.prune(_KEPT)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self, argv: Iterable[StrPath], image: Image | None, options: Options) -> Jail:
        if isinstance(other := options.get("ipc"), Jail):
            options = {**options, "ipc": other.spec}
        if isinstance(network := options.get("network"), Network):
            options = {**options, "network": self._networks.declared(network)}
        spec = self._adjust(JailSpec.declared(argv, image=image.spec if image else None, **options))
        sources = check_sources(spec)
        if spec.image is None:
            image = self._images.closure_of(spec.argv[0])
        elif image is None or spec.image != image.spec:
            image = self._images.build(spec.image)
        view, identity = self._settle(spec, image, sources)
        return self._make(spec, image, view, identity, sources, self._finished)

    def _settle(self, spec: JailSpec, image: Image, sources: Mapping[str, Source]) -> tuple[FileView, Identity]:
        """Look up in the root what the declaration names. A root file system never changes, so that its answers are kept."""
        key = None if spec.mounts else (image.rootfs.path, spec.command()[0], spec.environment().get("PATH"), spec.directory(), spec.account())
        settled = self._settled.get(key) if key else None
        if settled is None:
            view = root_view(spec, image.view)
            check_program(spec, view)
            caller = not self._launcher.world.privileged and volumes.of_the_caller(spec, sources)
            settled = view, identify(spec.account(), view, self._launcher.ids, caller=caller)
            if key:
                self._settled[key] = settled
        return settled

    def _make(
        self, spec: JailSpec, image: Image, view: FileView, identity: Identity, sources: Mapping[str, Source], finished: Finished,
    ) -> Jail:
        with self._lock, ExitStack() as passed, ExitStack() as undone:
            world = self._launcher.world
            # Before anything is made, for a port may be taken.
            publication = Publication(self._publisher, bind(spec.publish))
            undone.callback(publication.close)
            given = self._given(spec)
            for fd in given.values():
                passed.callback(os.close, fd)
            mapped = volumes.mapped(spec, sources, identity) if world.privileged else sources
            steps = plan(spec, image.rootfs.path, world, mapped, within=self._within)
            network = self._networks.find(spec.network)
            # First the keeper, which outlives us, and then what it must remove if we are killed.
            handle = Handle(self._launcher.prepare("host" if spec.network == "host" else "none", steps, identity.idmap), self._echo)
            undone.callback(handle.close)
            exempt = self._exempt(identity.idmap, identity.uid)
            bounds = bound(spec.limits, self._hierarchy, session=self._session, name=str(next(self._numbers)), exempt=exempt)
            if bounds.group:
                undone.callback(bounds.group.remove)
                undone.callback(handle.close)
            main = command(spec, identity, bounds, echoed=self._echo is not None)
            jail = Jail(spec, main, handle, bounds, publication, view=view, image=image, finished=finished)
            undone.callback(jail.close)
            if network is not None:
                jail.join(network)
            doors = bounds.group.doors() if bounds.group else []
            for fd in doors:
                passed.callback(os.close, fd)
            # Asked for first: of a program that cannot start nothing is left that could be asked.
            channel = passed.enter_context(handle.channel()) if spec.publish else None
            handle.run(1, main, spec.stdin, doors=doors, given=given)
            if channel:
                publication.start(channel)
            self._jails.add(jail)
            undone.pop_all()
        return jail

    def _given(self, spec: JailSpec) -> dict[str, int]:
        """Descriptors from elsewhere that the steps of making a jail need."""
        given = self._find(spec.ipc).ipc() if spec.ipc else {}
        if self._within:
            for name, kind in (("sight", "mnt"), ("network", "net")):
                given[name] = os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        return given

    def _find(self, spec: JailSpec) -> Jail:
        """The jail that was declared so."""
        found = next((jail for jail in self._jails if jail.spec is spec), None)
        if found is None:
            raise SpecError(f"ipc={spec!r}", "no jail of this session was declared so", "Write what nsjail_start() returned.")
        return found

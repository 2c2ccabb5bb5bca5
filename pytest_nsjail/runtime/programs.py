"""The flow of a program, on one page: declare, resolve, build, plan, launch, and see what happened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from pytest_nsjail.errors import ProgramFailed, SetupError, SpecError
from pytest_nsjail.fileview import FileView
from pytest_nsjail.jail.handle import Handle
from pytest_nsjail.jail.plan import Source, plan
from pytest_nsjail.network.bound import bind
from pytest_nsjail.network.network import Network
from pytest_nsjail.network.publisher import Publication, Publisher
from pytest_nsjail.runtime import volumes
from pytest_nsjail.runtime.ground import Ground
from pytest_nsjail.runtime.identity import Identity, identify
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.images import Images
from pytest_nsjail.runtime.jail import Jail
from pytest_nsjail.runtime.networks import Networks
from pytest_nsjail.runtime.order import command
from pytest_nsjail.runtime.result import Result
from pytest_nsjail.runtime.settle import check_program, check_sources, root_view
from pytest_nsjail.spec.check import StrPath, known
from pytest_nsjail.spec.jail import ImageSpec, JailSpec, Options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pytest_nsjail.runtime.flow import Adjust, Finished

# A jail without a program: to execute the root directory is refused, and by then all else was not.
_NOTHING = JailSpec(("/",))


class Programs:
    """All jails of a session that programs run in, and the images and networks for them.

    :param adjust: may change every declaration before it is looked at.
    :param finished: sees every result.
    :param echo: two descriptors on which what programs write to their standard output and error is repeated as it comes, or None.
    """

    def __init__(self, ground: Ground, *, adjust: Adjust, finished: Finished, echo: tuple[int, int] | None) -> None:
        self._ground, self._launcher = ground, ground.launcher
        self._adjust, self._finished, self._echo = adjust, finished, echo
        self._publisher = Publisher()
        self._images = Images(ground.store, self.run)
        self._networks = Networks(self._launcher)
        self._jails: WeakSet[Jail] = WeakSet()
        self._settled: dict[tuple[object, ...], tuple[FileView, Identity]] = {}

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

    def build(self, spec: ImageSpec) -> Image:
        """See :meth:`pytest_nsjail.runtime.flow.Runtime.image`."""
        return self._images.build(spec)

    def run(self, argv: Iterable[StrPath], *, image: Image | None = None, check: bool = False, **options: Unpack[Options]) -> Result:
        """See :meth:`pytest_nsjail.runtime.flow.Runtime.run`."""
        known("nsjail_run()", options, ("image", "check", *Options.__annotations__))
        if options.get("ready") is not None:
            argv = list(argv)
            instead = "Leave it out, or start the program: nsjail_start(..., ready=...)."
            raise SpecError(f"nsjail_run({argv!r})", f"ready={options['ready']!r} of a program that is waited for until its end", instead)
        jail = self._start("nsjail_run", argv, image, options)
        try:
            result = jail.wait()
        finally:
            jail.close()
            self._launcher.ahead()
        if check and not result.ok:
            raise ProgramFailed(result.report())
        return result

    def start(self, argv: Iterable[StrPath], *, image: Image | None = None, **options: Unpack[Options]) -> Jail:
        """See :meth:`pytest_nsjail.runtime.flow.Runtime.start`."""
        known("nsjail_start()", options, ("image", *Options.__annotations__))
        jail = self._start("nsjail_start", argv, image, options)
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
        """See :meth:`pytest_nsjail.runtime.flow.Runtime.network`."""
        network = self._networks.make(name)
        self._launcher.ahead()
        return network

    def close(self) -> None:
        """Give back all that does not end with the zygote."""
        self._networks.close()
        self._publisher.close()

    def _start(self, by: str, argv: Iterable[StrPath], image: Image | None, options: Options) -> Jail:
        if not isinstance(image, (Image, type(None))):
            raise SpecError(f"{by}()", f"image={image!r} is no image", "Write what nsjail_image(...) returned.")
        if isinstance(other := options.get("ipc"), Jail):
            options = {**options, "ipc": other.spec}
        if isinstance(network := options.get("network"), Network):
            options = {**options, "network": self._networks.declared(network)}
        spec = self._adjust(JailSpec.declared(argv, by=by, image=image.spec if image else None, **options))
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
        with self._ground.lock, ExitStack() as passed, ExitStack() as undone:
            world = self._launcher.world
            # Before anything is made, for a port may be taken.
            publication = Publication(self._publisher, bind(spec.publish))
            undone.callback(publication.close)
            given = self._given(spec)
            for fd in given.values():
                passed.callback(os.close, fd)
            mapped = volumes.mapped(spec, sources, identity) if world.privileged else sources
            steps = plan(spec, image.rootfs.path, world, mapped, within=self._ground.within)
            network = self._networks.find(spec.network)
            # First the keeper, which outlives us, and then what it must remove if we are killed.
            handle = Handle(self._launcher.prepare("host" if spec.network == "host" else "none", steps, identity.idmap), self._echo)
            undone.callback(handle.close)
            bounds = self._ground.bound(spec.limits, identity.idmap, identity.uid)
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
        if self._ground.within:
            for name, kind in (("sight", "mnt"), ("network", "net")):
                given[name] = os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        return given

    def _find(self, spec: JailSpec) -> Jail:
        """The jail that was declared so."""
        found = next((jail for jail in self._jails if jail.spec is spec), None)
        if found is None:
            raise SpecError(f"ipc={spec!r}", "no jail of this session was declared so", "Write what nsjail_start() returned.")
        return found

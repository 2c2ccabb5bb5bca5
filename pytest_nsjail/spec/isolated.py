"""The world of an isolated test, as a marker declares it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytest_nsjail.errors import SpecError
from pytest_nsjail.spec import check
from pytest_nsjail.spec.check import StrPath
from pytest_nsjail.spec.jail import ImageSpec
from pytest_nsjail.spec.limits import Limits


@dataclass(frozen=True)
class IsolatedSpec:
    """Where one test runs: what ``@pytest.mark.isolated`` was given.

    :param image: the root file system; None: the host's files, read-only.
    :param network: ``none``: an own network with loopback only; ``host``: the host's.
    :param writable: directories of the host that stay writable, absolute.
    :param limits: what the test and its processes may use at the most.
    :param timeout: wall time in seconds for set-up, call and tear-down together; None: no limit.
    :param env: variables, as pairs; they override what pytest has.
    :param user: who the test runs as; None: who pytest runs as.
    :param hostname: the jail's host name.
    """

    image: ImageSpec | None = None
    network: str = "none"
    writable: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    timeout: float | None = None
    env: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    hostname: str = "nsjail"

    @classmethod
    def declared(
        cls, *, image: ImageSpec | None = None, network: str = "none", writable: Iterable[StrPath] = (), limits: Limits | None = None,
        timeout: float | None = None, env: Mapping[str, str] | None = None, user: str | int | None = None, hostname: str | None = None,
    ) -> IsolatedSpec:
        """From what a user wrote; every value is checked.

        :raises SpecError: for a value that cannot be meant.
        """
        marker = "pytest.mark.isolated"
        if not isinstance(image, (ImageSpec, type(None))):
            raise SpecError(marker, f"image is {image!r}", "Write the name of a fixture that returns an image: image='node'.")
        if not isinstance(limits, (Limits, type(None))):
            raise SpecError(marker, f"limits is {limits!r}", "Write limits=Limits(memory='256M').")
        if network not in ("none", "host"):
            raise SpecError(marker, f"network={network!r} is no network", "Write network='none' or network='host'.")
        asked = check.sequence(marker, "writable", writable, "'/srv/data'")
        return cls(
            image=image,
            network=network,
            writable=tuple(check.inside(marker, "writable", path) for path in asked),
            limits=limits or Limits(),
            timeout=None if timeout is None else check.seconds(marker, "timeout", timeout),
            env=check.environment(marker, env or {}),
            user=None if user is None else check.user(marker, user),
            hostname="nsjail" if hostname is None else check.hostname(marker, hostname),
        )

"""Ports of a jail that the host reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_nsjail.errors import SpecError
from pytest_nsjail.spec import check

Inner = int | str


@dataclass(frozen=True)
class Publish:
    """One port of the jail, and the address of the host that leads to it.

    :param port: in the jail.
    :param host: the host's address, in figures.
    :param outer: the host's port; 0: any that is free.
    :param udp: whether it is of datagrams.
    """

    port: int
    host: str = "127.0.0.1"
    outer: int = 0
    udp: bool = False

    @property
    def inner(self) -> Inner:
        """What the declaration calls it: the port, or ``"53/udp"``."""
        return f"{self.port}/udp" if self.udp else self.port


def published(declaration: str, value: object) -> tuple[Publish, ...]:
    """From ``{6379: 0, "53/udp": ("127.0.0.1", 5300)}``.

    :raises SpecError: for what is no port or no address, and for two that want one place.
    """
    if not isinstance(value, Mapping):
        raise SpecError(declaration, f"publish is {value!r}", "Write a dict, {port in the jail: port of the host}: publish={6379: 0}; 0 is any that is free.")
    found: dict[tuple[str, int, bool], Publish] = {}
    for inner, outer in value.items():
        one = _one(declaration, inner, outer)
        place = one.host, one.outer, one.udp
        if one.outer and place in found:
            problem = f"publish gives {one.host}:{one.outer} to {found[place].inner!r} and to {one.inner!r}"
            raise SpecError(declaration, problem, "Write 0 for one of them: any port that is free.")
        found[place if one.outer else (f"{one.port}", 0, one.udp)] = one
    return tuple(found.values())


def _one(declaration: str, inner: object, outer: object) -> Publish:
    number, udp = inner, False
    if isinstance(inner, str):
        digits, _, kind = inner.partition("/")
        if kind not in ("tcp", "udp") or not (digits.isascii() and digits.isdigit()):
            instead = "Write {port in the jail: port of the host}, 0 for any that is free: publish={6379: 0}; of datagrams: {'53/udp': 0}."
            raise SpecError(declaration, f"publish names the port {inner!r}", instead)
        number, udp = int(digits), kind == "udp"
    port = check.port(declaration, "publish", number)
    host, free = "127.0.0.1", outer
    if isinstance(outer, tuple):
        if len(outer) != 2 or not isinstance(outer[0], str):
            instead = f"Write a port, or an address and a port: publish={{{inner!r}: ('127.0.0.1', 0)}}."
            raise SpecError(declaration, f"publish leads {inner!r} to {outer!r}", instead)
        host, free = check.address(declaration, f"publish leads {inner!r} to", outer[0]), outer[1]
    if isinstance(free, str):
        instead = f"Write a port, or an address and a port: publish={{{inner!r}: ('127.0.0.1', 8080)}}."
        raise SpecError(declaration, f"publish leads {inner!r} to {outer!r}", instead)
    outside = 0 if free == 0 and not isinstance(free, bool) else check.port(declaration, f"publish[{inner!r}]", free)
    return Publish(port, host, outside, udp)

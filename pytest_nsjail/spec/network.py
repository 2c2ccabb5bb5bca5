"""A network of several jails, and what befalls a jail's link in it, declared."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_nsjail.errors import SpecError
from pytest_nsjail.spec import check

_RATE = re.compile(r"([0-9]+)([KMG]?)")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
# What a token bucket can hold to: a packet every twelve seconds, and what the kernel can count.
_SLOWEST, _FASTEST = 1000, 10**12


@dataclass(frozen=True)
class NetworkSpec:
    """What a jail's declaration says of the network that it joins.

    :param name: the network's, unlike any other's of the session.
    """

    name: str


@dataclass(frozen=True)
class Shape:
    """What befalls the packets of one jail's link, in each direction.

    :param delay: how much later each arrives, in seconds; a round trip is longer by twice that.
    :param jitter: by how much that varies, up and down, evenly, in seconds; packets may then overtake each other.
    :param loss: the share that is lost, 0 to 1.
    :param rate: bits a second that pass at the most; None: no limit.
    :param seed: what losses and variations are drawn from: the same packets meet the same again.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    rate: int | None = None
    seed: int = 0

    @classmethod
    def declared(cls, declaration: str, *, delay: float, jitter: float, loss: float, rate: int | str | None, seed: int) -> Shape:
        """From what a user wrote; every value is checked.

        :param rate: bits a second: an int, or digits with K, M or G, by thousands.
        :raises SpecError: for a value that cannot be meant.
        """
        for name, value in (("delay", delay), ("jitter", jitter)):
            if value != 0:
                check.seconds(declaration, name, value)
        if jitter > delay:
            raise SpecError(declaration, f"jitter={jitter!r} is more than delay={delay!r}", "Nothing arrives before it is sent: write a larger delay.")
        if not isinstance(loss, (int, float)) or isinstance(loss, bool) or not 0 <= loss <= 1:
            raise SpecError(declaration, f"loss={loss!r} is no share", "Write a number from 0 to 1: loss=0.05 for one packet in twenty.")
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise SpecError(declaration, f"seed={seed!r} is no seed", "Write a whole number: seed=1.")
        return cls(float(delay), float(jitter), float(loss), None if rate is None else _bits(declaration, rate), seed)

    def __str__(self) -> str:
        """In words: what is asked for, and no more."""
        said = [f"delay {self.delay:g} s"] if self.delay else []
        said += [f"jitter {self.jitter:g} s"] if self.jitter else []
        said += [f"loss {self.loss:g}"] if self.loss else []
        said += [f"rate {self.rate} bit/s"] if self.rate is not None else []
        return ", ".join(said) or "as it was"


def _bits(declaration: str, value: object) -> int:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    bits = int(match[1]) * _UNITS[match[2]] if match else value
    if not isinstance(bits, int) or isinstance(bits, bool) or not _SLOWEST <= bits <= _FASTEST:
        raise SpecError(declaration, f"rate={value!r} is no rate", "Write bits a second, from 1000 on, or K, M, G of them: rate='10M'.")
    return bits

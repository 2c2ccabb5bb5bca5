"""A network of several jails, declared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkSpec:
    """What a jail's declaration says of the network that it joins.

    :param name: the network's, unlike any other's of the session.
    """

    name: str

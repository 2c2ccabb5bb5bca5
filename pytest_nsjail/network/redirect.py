"""Code of this process whose sockets live in a jail, while it knows nothing of that."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pytest_nsjail.network.dial import Source

_OWN = socket.socket
# Redirected families; a path of a unix socket is the process's own, and so is what is neither.
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_lock = threading.Lock()


class _Kind(type):
    """Makes every socket an instance of whatever ``socket.socket`` is at the moment."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _OWN)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _OWN)


@contextlib.contextmanager
def redirected(source: Source, names: Callable[[], Mapping[str, tuple[str, ...]]]) -> Iterator[None]:
    """Let ``socket.socket`` make sockets of a jail: in this process, in all its threads, until it is left.

    Whoever took the class out of its module before (``from socket import socket``) and libraries that are not written in Python go on as they did.

    :param names: the host names that mean something in the jail, and the addresses of each.
    """

    class Socket(_OWN, metaclass=_Kind):
        """A socket of the jail, unless it is made from a descriptor or of another family."""

        def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
            if fileno is None:
                family = socket.AF_INET if family == -1 else family
                type = socket.SOCK_STREAM if type == -1 else type
                proto = 0 if proto == -1 else proto
                if family in _FAMILIES:
                    fileno = source.make(family, type, proto).detach()
            super().__init__(family, type, proto, fileno)

    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        known = names().get(name) if isinstance(name, str) else None
        if known is None:
            return resolve(host, *args, **kwargs)
        found, failed = [], None
        for address in known:
            try:
                found += resolve(address, *args, **kwargs)
            except socket.gaierror as error:  # of another family than was asked for
                failed = error
        if failed and not found:
            raise failed
        return found

    with _lock:
        before = socket.socket, socket.getaddrinfo
        socket.socket, socket.getaddrinfo = Socket, getaddrinfo  # type: ignore[misc]
    try:
        yield
    finally:
        with _lock:
            socket.socket, socket.getaddrinfo = before  # type: ignore[misc]

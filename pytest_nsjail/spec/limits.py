"""What a jailed program may use at the most."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pytest_nsjail.spec import check


@dataclass(frozen=True)
class Limits(check.Declared):
    """Bounds on one jail; None leaves a resource unbounded. Sizes are bytes, or digits with K, M, G.

    :param memory: of all its processes together, in bytes.
    :param processes: how many processes and threads at once.
    :param cpu_seconds: CPU time of each process (RLIMIT_CPU, getrlimit(2)).
    :param file_size: of each file it writes, in bytes (RLIMIT_FSIZE).
    :param open_files: of each process: its descriptors are below this number (RLIMIT_NOFILE).
    """

    memory: int | str | None = None
    processes: int | None = None
    cpu_seconds: int | None = None
    file_size: int | str | None = None
    open_files: int | None = None

    def __post_init__(self) -> None:
        declaration = repr(self)
        for name in ("memory", "file_size"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check.size(declaration, name, value))
        for name in ("processes", "cpu_seconds", "open_files"):
            value = getattr(self, name)
            if value is not None:
                check.count(declaration, name, value)

    def __repr__(self) -> str:
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return f"Limits({', '.join(f'{name}={value!r}' for name, value in given if value is not None)})"

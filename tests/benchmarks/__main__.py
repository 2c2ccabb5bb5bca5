"""Every benchmark, as Markdown."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path

from tests.benchmarks import build, closures, isolated, network, servers, start, switch


def main() -> None:
    """Print the tables, each as soon as it is there."""
    print(f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}, {'root' if os.getuid() == 0 else 'unprivileged'}")
    with tempfile.TemporaryDirectory(prefix="nsjail-benchmark-") as name:
        directory = Path(name)
        for part in ("start", "build", "isolated", "servers", "network", "switch"):
            (directory / part).mkdir()
        print(f"\n## A static program that does nothing, linked with musl, {start.ROUNDS} interleaved rounds\n")
        print(start.measured(directory / "start"), flush=True)
        print(f"\n## Isolated tests, by sessions of {isolated.SHORT} and of {isolated.LONG}, {isolated.ROUNDS} interleaved rounds\n")
        print(isolated.measured(directory / "isolated"), flush=True)
        print(f"\n## A Redis, from asking for it to its PONG, {servers.ROUNDS} interleaved rounds\n")
        print(servers.measured(directory / "servers"), flush=True)
        print(f"\n## Connections into a jail, {network.ROUNDS} interleaved rounds\n")
        print(network.measured(directory / "network"), flush=True)
        print(f"\n## Jails on one switch, {switch.ROUNDS} rounds\n")
        print(switch.measured(directory / "switch"), flush=True)
        print(f"\n## Building, {build.ROUNDS} rounds\n")
        print(build.measured(directory / "build", start.compiled(directory / "build")), flush=True)
    print(f"\n## The closures of {closures.PROGRAMS} programs, {closures.ROUNDS} interleaved rounds\n")
    print(closures.measured(), flush=True)


if __name__ == "__main__":
    main()

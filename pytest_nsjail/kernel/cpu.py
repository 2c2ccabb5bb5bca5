"""Which of the loader's glibc-hwcaps directories this CPU may use (ld.so(8), "Hardware capabilities")."""

from __future__ import annotations

import platform

# The x86-64 psABI's levels, by the flags of /proc/cpuinfo.
_LEVELS = (
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ("x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("x86-64-v2", {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
)


def levels() -> tuple[str, ...]:
    """The levels that this CPU has, best first; each needs those below it."""
    if platform.machine() != "x86_64":
        return ()
    flags: set[str] = set()
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        for line in info:
            if line.startswith("flags"):
                flags = set(line.partition(":")[2].split())
                break
    found: list[str] = []
    for name, needed in reversed(_LEVELS):
        if not needed <= flags:
            break
        found.insert(0, name)
    return tuple(found)

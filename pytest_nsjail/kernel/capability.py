"""What this process may do (capabilities(7)), read from its own status."""

from __future__ import annotations

SYS_ADMIN = 21
SYS_RESOURCE = 24


def has(capability: int) -> bool:
    """Whether a capability is in this process's effective set."""
    return bool(effective() >> capability & 1)


def effective() -> int:
    """This process's effective set, a bit for each."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0

"""What isolated tests left running, at the end of a session's output: a test that passed shows its report to nobody."""

from __future__ import annotations

from typing import Any

# How the section of a report that tells them begins.
LEFTOVERS = "nsjail: leftovers"
_SHOWN = 20


def lines(reports: list[Any]) -> list[str]:
    """Each test that left processes, with the first of them; empty where none did."""
    found = []
    for report in reports:
        for title, text in getattr(report, "sections", ()):
            if title.startswith(LEFTOVERS):
                left = text.splitlines()
                found.append(f"{report.nodeid}: {len(left)} {'process' if len(left) == 1 else 'processes'}: {left[0].strip()}")
    return [*found[:_SHOWN], *([f"... and {len(found) - _SHOWN} more tests"] if len(found) > _SHOWN else [])]

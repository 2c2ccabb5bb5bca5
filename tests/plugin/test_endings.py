"""Nothing is left behind, however the session ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SLEEPER = "/bin/busybox sleep 86399"

SESSIONS = {
    "running": "def test_it(nsjail_run): nsjail_run(['/bin/busybox', 'sleep', '86399'])",
    "started": """
        import time
        def test_it(nsjail_start, tmp_path):
            jails = [nsjail_start(["/bin/busybox", "sh", "-c", "trap '' TERM; sleep 86399 & exec /bin/busybox sleep 86399"]) for _ in range(3)]
            time.sleep(600)
    """,
    "in a limited jail": """
        from pytest_nsjail import Limits
        def test_it(nsjail_run): nsjail_run(["/bin/busybox", "sleep", "86399"], limits=Limits(memory="256M"))
    """,
    "in a session's fixture": """
        import pytest
        @pytest.fixture(scope="session")
        def result(nsjail_run): return nsjail_run(["/bin/busybox", "sleep", "86399"])
        def test_it(result): pass
    """,
}


def left_files(path: Path) -> list[str]:
    """What there is in a session's temporary directory, and in the parts of its store where nothing stays."""
    return [f"{name}/{entry}" for name in ("tmp", "store/tmp", "store/stage") if (path / name).is_dir() for entry in os.listdir(path / name)]


def mounts_below(path: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(path) in line]


def groups_of(pid: int) -> list[str]:
    """The control groups that were made for a session."""
    return [place for place, _, _ in os.walk("/sys/fs/cgroup") if "nsjail" in os.path.basename(place) and str(pid) in os.path.basename(place)]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
@pytest.mark.parametrize("test", SESSIONS)
def test_nothing_is_left(inner: pytest.Pytester, session: Callable[..., Any], test: str, end: signal.Signals) -> None:
    inner.makepyfile(SESSIONS[test])
    one = session()
    running = one.processes.running(SLEEPER)
    assert any("pytest_nsjail.jail.zygote" in command or "nsjail-keeper" in command for command in running.values())
    status, out = one.end(end)
    assert status == (2 if end == signal.SIGINT else -9), out
    if end == signal.SIGINT:
        assert "KeyboardInterrupt" in out
        assert "Traceback" not in out
        # It waited for their end.
        assert one.processes.left(running, 0) == {}
    assert one.processes.left(running) == {}
    assert mounts_below(inner.path) == []
    assert left_files(inner.path) == []
    assert groups_of(one.process.pid) == []


@pytest.mark.parametrize(("last", "expected"), [("pass", 0), ("assert 0", 1), ("os._exit(3)", 3)])
def test_nothing_is_left_of_a_session_that_ended(inner: pytest.Pytester, session: Callable[..., Any], last: str, expected: int) -> None:
    inner.makepyfile(f"""
        import os, pytest
        def test_it(nsjail_run, nsjail_start):
            assert nsjail_run(["/bin/busybox", "touch", "/new"]).changes.added
            jail = nsjail_start(["/bin/busybox", "sleep", "86399"])
            assert jail.host_pid
            input()
            {last}
    """)
    read, write = os.pipe()
    saved = os.dup(0)
    try:
        os.dup2(read, 0)
        one = session("-s")
    finally:
        os.dup2(saved, 0)
        for fd in (saved, read):
            os.close(fd)
    running = one.processes.running(SLEEPER)
    os.write(write, b"\n")
    os.close(write)
    out = one.process.communicate(timeout=30)[0].decode()
    assert one.process.returncode == expected, out
    assert one.processes.left(running) == {}
    assert mounts_below(inner.path) == []
    assert left_files(inner.path) == []
    assert groups_of(one.process.pid) == []


@pytest.mark.parametrize("after", [0.0, 0.2])
def test_a_session_killed_while_it_builds_and_starts_leaves_nothing(
    inner: pytest.Pytester, session: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, after: float,
) -> None:
    inner.makepyfile("""
        import os
        from pytest_nsjail import Elf, Text
        def test_it(nsjail_image, nsjail_run):
            open("begun", "w").close()
            for number in range(10_000):
                assert nsjail_run(["/bin/busybox", "true"], image=nsjail_image(Elf("/bin/busybox"), Text("/number", str(number)))).ok
    """)
    one = session()
    while not (inner.path / "begun").exists():
        assert one.process.poll() is None, one.process.communicate()
    signal.sigtimedwait([], after)
    running = one.processes.descendants()
    assert running
    assert one.end(signal.SIGKILL)[0] == -9
    assert one.processes.left(running) == {}
    assert mounts_below(inner.path) == []
    assert [name for name in left_files(inner.path) if not name.startswith("store/tmp")] == []
    # What was being built is swept away by the next session.
    inner.makepyfile("def test_it(nsjail_run): assert nsjail_run(['/bin/busybox', 'true']).ok")
    assert inner.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={inner.path / 'base'}").ret == 0
    assert left_files(inner.path) == []

"""Where prepared inits come from: whoever asks gets the one that was made for them, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.spec.dependency import Elf, Text
from pytest_nsjail.spec.limits import Limits
from pytest_nsjail.spec.mount import Bind

LINK = "/proc/self/ns/net"


def test_threads_that_want_different_networks_get_theirs(runtime: Runtime, box: Image):
    host = os.readlink(LINK)
    wrong: list[str] = []

    def ask(number: int) -> None:
        for turn in range(25):
            network = "host" if (number + turn) % 2 else "none"
            seen = runtime.run(["readlink", LINK], image=box, network=network).stdout.strip()
            if (seen == host) != (network == "host"):
                wrong.append(f"{network}: {seen}")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# A socket that an exception made nobody's is closed by the collector, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_out_of_nowhere_loses_no_jail_and_mixes_up_none(runtime: Runtime, box: Image):
    class Alarm(Exception):
        pass

    def raising(*_: object) -> None:
        raise Alarm

    host = os.readlink(LINK)
    for network in ("none", "host"):
        runtime.run(["true"], image=box, network=network)  # what is looked up once is looked up by now
    before = signal.signal(signal.SIGALRM, raising)
    try:
        for turn in range(60):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + turn * 0.00005)
                runtime.run(["true"], image=box, network="host" if turn % 2 else "none")
            except Alarm:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert runtime.run(["readlink", LINK], image=box).stdout.strip() != host
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_forked_child_that_lives_on_does_not_hold_the_end_up(tmp_path):
    with Runtime(str(tmp_path)) as runtime:
        runtime.run(["/bin/busybox", "true"])
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        began = time.monotonic()
    try:
        assert time.monotonic() - began < 10
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_third_jail_with_the_same_plan_has_its_own_layer(runtime: Runtime, box: Image):
    for _ in range(6):
        result = runtime.run(["sh", "-c", "test ! -e /left && echo $$ >/left && cat /left && hostname"], image=box)
        assert (result.stdout, list(result.changes.added)) == ("2\nnsjail\n", ["/left"]), result.report()


def test_what_comes_after_the_same_plan_twice_is_what_was_asked_for(runtime: Runtime, box: Image, tmp_path: Path):
    other = runtime.image(Elf("/bin/busybox", "/bin/sh"), Text("/name", "other\n"), env={"PATH": "/bin"})
    file = tmp_path / "file"

    def seen(script: str, **options: Any) -> str:
        return str(runtime.run(["sh", "-c", script], image=options.pop("image", box), check=True, **options).stdout)

    for turn in range(3):
        for _ in range(3):
            assert seen("hostname; pwd; id -u") == "nsjail\n/\n0\n"
        assert seen("read a </name; echo $a", image=other) == "other\n"
        assert seen("hostname", hostname=f"turn{turn}") == f"turn{turn}\n"
        assert seen("id -u; echo $$", user="0", workdir="/data") == "0\n2\n"
        assert seen("echo $$", limits=Limits(memory="64M")) == "2\n"
        for _ in range(4):
            # A new file under the old name.
            file.unlink(missing_ok=True)
            file.write_text(f"{turn} {time.monotonic_ns()}")
            assert seen("cat /mnt/file", mounts=[Bind(str(tmp_path), "/mnt")]) == file.read_text()


def test_a_spare_that_was_killed_is_replaced_and_no_other_jail_suffers(tmp_path: Path):
    with Runtime(str(tmp_path)) as runtime, runtime.start(["/bin/busybox", "sleep", "60"]) as other:
        for _ in range(3):
            runtime.run(["/bin/busybox", "true"])
        # That of the last run goes meanwhile, and one more comes.
        for pid in _settled(lambda: _inits_but_of(other.host_pid), 2):
            os.kill(pid, signal.SIGKILL)
        _settled(lambda: _inits_but_of(other.host_pid), 0)
        assert runtime.run(["/bin/busybox", "true"]).ok
        assert runtime.run(["/bin/busybox", "true"]).ok
        assert len(other.processes()) == 1


def _settled(look: Callable[[], list[int]], number: int) -> list[int]:
    deadline = time.monotonic() + 10
    before, found = [0], look()
    while len(found) != number or found != before:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
        before, found = found, look()
    return found


def _inits_but_of(payload: int) -> list[int]:
    """The host pids of the inits that wait: of the zygote's children those that are not the parent of this payload."""
    mine = _parent(payload)
    return [pid for pid in _children(_parent(mine)) if pid != mine]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

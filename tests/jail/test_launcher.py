"""Where prepared inits come from: whoever asks gets the one that was made for them, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image

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

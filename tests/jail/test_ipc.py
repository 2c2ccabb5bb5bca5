"""Jails that share an IPC namespace, and nothing else."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_nsjail.errors import JailEnded, SpecError
from pytest_nsjail.runtime import Runtime
from pytest_nsjail.runtime.image import Image
from pytest_nsjail.runtime.jail import Jail
from pytest_nsjail.spec.dependency import Elf
from pytest_nsjail.spec.mount import Tmpfs

SLEEP = ["sleep", "600"]
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@pytest.fixture
def first(runtime: Runtime, box: Image) -> Iterator[Jail]:
    with runtime.start(SLEEP, image=box) as jail:
        yield jail


def got(runtime: Runtime, box: Image, **options: object) -> list[str]:
    """What is in reach of a program: of SysV's shared memory, of a POSIX queue and of POSIX' shared memory."""
    return runtime.run(["probe", "ipc"], image=box, check=True, **options).stdout.split()


def test_shared_memory_and_queues_are_common(runtime, box, first):
    first.run(["probe", "ipc", "hello"], check=True)
    assert got(runtime, box) == ["nothing"] * 3
    assert got(runtime, box, ipc=first) == ["hello"] * 3
    runtime.run(["probe", "ipc", "again"], image=box, ipc=first, check=True)
    assert first.run(["probe", "ipc"]).stdout.split() == ["again"] * 3


def test_so_they_are_for_a_third_one_that_joins_the_second(runtime, box, first):
    first.run(["probe", "ipc", "hello"], check=True)
    with runtime.start(SLEEP, image=box, ipc=first) as second, runtime.start(SLEEP, image=box, ipc=second) as third:
        first.stop()
        # What a namespace holds lives as long as anybody is in it.
        assert third.run(["probe", "ipc"]).stdout.split() == ["hello"] * 3


def test_nothing_else_is(runtime, box, first):
    script = f"for kind in {' '.join(KINDS)}; do readlink /proc/self/ns/$kind; done; ls /tmp; ps; echo $$"
    first.run(["sh", "-c", "touch /tmp/of-the-first"], check=True)
    with runtime.start(SLEEP, image=box, ipc=first) as second:
        found = [jail.run(["sh", "-c", script]).stdout for jail in (first, second)]
        namespaces = [dict(zip(KINDS, text.split("\n"), strict=False)) for text in found]
        same = {kind for kind in KINDS if namespaces[0][kind] == namespaces[1][kind]}
        assert same == {"ipc"}
        assert "of-the-first" in found[0]
        assert "of-the-first" not in found[1]
        assert [process.argv for process in second.processes()] == [tuple(SLEEP)]
    assert runtime.run(["sh", "-c", "echo $$"], image=box, ipc=first).stdout == "2\n"


@pytest.mark.parametrize("spares", [0, 3])
def test_a_payload_that_was_born_before_is_in_it_too(runtime, box, first, spares):
    namespace = first.run(["readlink", "/proc/self/ns/ipc"]).stdout
    for _ in range(spares):
        runtime.run(["true"], image=box)
    assert runtime.run(["readlink", "/proc/self/ns/ipc"], image=box, ipc=first).stdout == namespace
    assert runtime.run(["readlink", "/proc/self/ns/ipc"], image=box, ipc=first, user=500).stdout == namespace
    assert runtime.run(["readlink", "/proc/self/ns/ipc"], image=box).stdout != namespace


def test_a_tmpfs_of_ones_own_stays_ones_own(runtime, box, first):
    first.run(["sh", "-c", "echo >/dev/shm/file"], check=True)
    assert runtime.run(["ls", "/dev/shm"], image=box, ipc=first).stdout == "file\n"
    assert runtime.run(["ls", "/dev/shm"], image=box, ipc=first, mounts=[Tmpfs("/dev/shm", size="1M")]).stdout == ""


def test_a_hook_may_change_everything_else(tmp_path: Path):
    with Runtime(str(tmp_path), adjust=lambda spec: replace(spec, env=(*spec.env, ("HOOKED", "yes")))) as runtime:
        image = runtime.image(Elf("/bin/busybox"), env={"PATH": "/bin"}, entrypoint=["/bin/busybox"])
        with runtime.start(["sleep", "600"], image=image) as one:
            two = runtime.run(["sh", "-c", "/bin/busybox readlink /proc/self/ns/ipc; echo $HOOKED"], image=image, ipc=one)
            assert two.stdout == one.run(["/bin/busybox", "readlink", "/proc/self/ns/ipc"]).stdout + "yes\n"


def test_nothing_is_left_open(runtime, box, first):
    def held() -> int:
        gc.collect()  # what other tests have left to it
        return len(os.listdir("/proc/self/fd"))

    for _ in range(2):
        got(runtime, box, ipc=first)
    before = held()
    for _ in range(3):
        got(runtime, box, ipc=first)
    assert held() == before


@pytest.mark.parametrize("other", ["host", 3, json])
def test_what_is_no_jail(runtime, box, other):
    with pytest.raises(SpecError, match=r"ipc=.* is no jail"):
        runtime.run(["true"], image=box, ipc=other)


def test_one_that_has_ended(runtime, box, first):
    first.stop()
    with pytest.raises(JailEnded, match=r"cannot share the IPC namespace of a jail that has ended: sleep 600: "):
        runtime.run(["true"], image=box, ipc=first)


def test_one_that_was_closed(runtime, box, first):
    first.close()
    with pytest.raises(JailEnded, match=r"cannot share the IPC namespace of a jail that has ended: sleep 600: "):
        runtime.run(["true"], image=box, ipc=first)

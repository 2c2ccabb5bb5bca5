"""S10: an application and its plug-ins, each in a jail of its own; they share one IPC namespace, and nothing else."""

from __future__ import annotations

import subprocess

import pytest

from pytest_nsjail import Elf, JailEnded

SLEEP = ["/bin/busybox", "sleep", "60"]


@pytest.fixture(scope="session")
def image(nsjail_image, project, tmp_path_factory):
    board = tmp_path_factory.mktemp("board") / "board"
    subprocess.run(["musl-gcc", "-static", "-o", board, project / "src/board.c"], check=True)
    return nsjail_image(Elf("/bin/busybox"), Elf(board, to="/bin/board"), name="plug-in")


@pytest.fixture
def application(nsjail_start, image):
    return nsjail_start(SLEEP, image=image)


def test_s10_shared_memory_is_common(nsjail_run, image, application):
    for name in ("ant", "bee", "cat"):
        nsjail_run(["/bin/board", "post", name], image=image, ipc=application, check=True)
    assert application.run(["/bin/board"]).stdout == "ant\nbee\ncat\n"
    # Who is not one of them sees a board of his own.
    assert nsjail_run(["/bin/board"], image=image).stdout == ""


def test_s10_plug_ins_that_go_on_running(nsjail_start, image, application):
    ant, bee = (nsjail_start(SLEEP, image=image, ipc=application) for _ in range(2))
    ant.run(["/bin/board", "post", "from the ant"], check=True)
    assert bee.run(["/bin/board"]).stdout == "from the ant\n"
    ant.stop()
    assert bee.run(["/bin/board"]).stdout == "from the ant\n"


def test_s10_files_and_processes_are_not(nsjail_start, image, application):
    plug_in = nsjail_start(SLEEP, image=image, ipc=application)
    application.run(["/bin/busybox", "touch", "/tmp/of-the-application"], check=True)
    assert plug_in.run(["/bin/busybox", "ls", "/tmp"]).stdout == ""
    assert [process.argv for process in plug_in.processes()] == [tuple(SLEEP)]
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    links = ["/bin/busybox", "sh", "-c", f"for kind in {' '.join(kinds)}; do readlink /proc/self/ns/$kind; done"]
    pairs = zip(kinds, application.run(links).stdout.split(), plug_in.run(links).stdout.split(), strict=True)
    assert [kind for kind, one, other in pairs if one == other] == ["ipc"]


def test_s10_an_application_that_has_ended(nsjail_run, image, application):
    application.stop()
    with pytest.raises(JailEnded, match="has ended"):
        nsjail_run(["/bin/board"], image=image, ipc=application)

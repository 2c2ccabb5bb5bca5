"""An isolated test starts jails of its own: beside its jail, by the fixtures; and from within, where the kernel lets it."""

from __future__ import annotations

import os

import pytest

FIXTURES = """
import os, sys, time
import pytest
from pytest_nsjail import Bind, Elf, Exited, Limits, OutOfMemory, Text, TimedOut, Unsupported

BUSYBOX = "/bin/busybox"

@pytest.fixture(scope="module")
def image(nsjail_image):
    return nsjail_image(Elf(BUSYBOX), Text("/etc/said", "outside"))

def test_run(nsjail_run):
    result = nsjail_run([BUSYBOX, "sh", "-c", "echo $$; ls /; exit 3"])
    assert result.status == Exited(3)
    assert result.stdout.split()[0] == "2"
    assert os.getpid() == 2
def test_an_image_of_the_parents(nsjail_run, image): assert nsjail_run([BUSYBOX, "cat", "/etc/said"], image=image).stdout == "outside"
def test_an_image_of_its_own(nsjail_run, nsjail_image, tmp_path):
    own = nsjail_image(Elf(BUSYBOX), Text("/etc/said", "inside"))
    (tmp_path / "shared").write_text("by the test")
    result = nsjail_run([BUSYBOX, "cat", "/etc/said", "/shared"], image=own, mounts=[Bind(tmp_path / "shared", "/shared")])
    assert result.stdout == "insideby the test"
def test_start(nsjail_start, image):
    jail = nsjail_start([BUSYBOX, "sh", "-c", "echo begun; exec sleep 600"], image=image)
    deadline = time.monotonic() + 20
    while "begun" not in jail.stdout: assert time.monotonic() < deadline
    assert jail.run([BUSYBOX, "cat", "/etc/said"]).stdout == "outside"
    while {process.argv[0] for process in jail.processes()} != {"sleep"}: assert time.monotonic() < deadline
    jail.signal()
    assert str(jail.wait(20).status) == "killed by SIGTERM"
def test_what_is_left_running(nsjail_start, image):
    nsjail_start([BUSYBOX, "sleep", "98765.45"], image=image)
def test_many(nsjail_run, image):
    for number in range(5):
        assert nsjail_run([BUSYBOX, "echo", str(number)], image=image).stdout == f"{number}\\n"
def test_a_limit(nsjail_run):
    assert isinstance(nsjail_run([BUSYBOX, "sleep", "600"], timeout=0.3).status, TimedOut)
    assert isinstance(nsjail_run([BUSYBOX, "sh", "-c", "x=a; while :; do x=$x$x; done"], limits=Limits(memory="48M"), timeout=60).status, OutOfMemory)
def test_fails(nsjail_run): assert nsjail_run([BUSYBOX, "sh", "-c", "echo the last words; exit 1"]).ok
@pytest.mark.isolated(False)
def test_outside(nsjail_run, image): assert nsjail_run([BUSYBOX, "cat", "/etc/said"], image=image).stdout == "outside"
@pytest.mark.skipif("os.geteuid()")
def test_a_number_of_processes(nsjail_run):
    with pytest.raises(Unsupported, match="an isolated test never has one"): nsjail_run([BUSYBOX, "true"], limits=Limits(processes=3))
"""


def test_the_fixtures(inner: pytest.Pytester) -> None:
    inner.makepyfile(test_it=FIXTURES)
    result = inner.runpytest_subprocess("--nsjail", timeout=120)
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 1
    assert outcomes["passed"] + outcomes.get("skipped", 0) == 9
    result.stdout.fnmatch_lines(["*nsjail: exited with 1*", "$ /bin/busybox sh -c 'echo the last words; exit 1'", "the last words"])
    result.stdout.no_fnmatch_line("*left running*")


def test_a_session_within_a_test(inner: pytest.Pytester) -> None:
    """Of a plain user's jail, /proc is not covered anywhere, and so another can be mounted in it; of root's, it is."""
    inner.makepyfile(test_it="""
        import subprocess, sys
        INNER = "import os\\ndef test_inner(nsjail_run): assert os.getpid() == 2 and nsjail_run(['/bin/busybox', 'echo', 'said']).stdout == 'said\\\\n'\\n"
        def test_it(tmp_path):
            (tmp_path / "test_inner.py").write_text(INNER)
            places = [f"--nsjail-store={tmp_path}/store", f"--rootdir={tmp_path}", f"--basetemp={tmp_path}/base"]
            done = subprocess.run([sys.executable, "-m", "pytest", "--nsjail", *places, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
            print(done.stdout)
    """)
    result = inner.runpytest_subprocess("--nsjail", "-rP", timeout=60)
    result.assert_outcomes(passed=1)
    if os.geteuid() == 0:
        refused = "nsjail: cannot make the jail: * (Operation not permitted, errno 1). This process is in a jail already, *@pytest.mark.isolated(False)*"
        result.stdout.fnmatch_lines([refused])
    else:
        result.stdout.fnmatch_lines(["test_inner.py .*", "*= 1 passed in *", "*= 1 passed in *"])

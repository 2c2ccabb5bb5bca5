"""Many workers at once: one store, and a zygote for each."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _with_xdist(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p nsjail -p xdist")


SHARED = """
    import os
    from pathlib import Path
    import pytest
    from pytest_nsjail import Elf, Text

    @pytest.fixture(scope="session")
    def image(nsjail_image):
        return nsjail_image(Elf("/bin/busybox"), Text("/etc/said", "the same for all"))

    def keepers():
        own = str(os.getpid())
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            name, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
            if fields[1] == own and name.startswith("nsjail-keeper"):
                found.append(entry)
        return found

    @pytest.mark.parametrize("number", range(20))
    def test_it(image, nsjail_run, worker_id, number):
        assert nsjail_run(["/bin/busybox", "cat", "/etc/said"], image=image).stdout == "the same for all"
        keeper, = keepers()
        with open(f"{os.environ['SEEN']}/{worker_id}-{number}", "w") as file:
            file.write(f"{keeper} {image.digest}")
"""


@pytest.mark.parametrize("arguments", [["-n2"], ["-n2", "--dist=loadscope"]], ids=" ".join)
def test_workers_share_a_store_and_nothing_else(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    seen = inner.mkdir("seen")
    monkeypatch.setenv("SEEN", str(seen))
    inner.makepyfile(test_one=SHARED, test_two=SHARED)
    result = inner.runpytest_subprocess(*arguments, "--nsjail-store=store")
    result.assert_outcomes(passed=40)
    assert len([line for line in result.outlines if line.startswith("nsjail: ")]) == 1
    told = {path.name: path.read_text().split() for path in seen.iterdir()}
    keepers = {(name.partition("-")[0], keeper) for name, (keeper, _) in told.items()}
    assert {worker for worker, _ in keepers} == {"gw0", "gw1"}
    assert len(keepers) == len({keeper for _, keeper in keepers}) == 2
    digests = {digest for _, digest in told.values()}
    assert len(digests) == 1
    assert digests <= set(os.listdir(inner.path / "store/roots"))
    assert os.listdir(inner.path / "store/tmp") == os.listdir(inner.path / "store/stage") == []
    assert not [keeper for _, keeper in keepers if Path(f"/proc/{keeper}").exists()]


def test_failures_of_workers_are_shown_alike(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest
        @pytest.mark.parametrize("number", range(4))
        def test_it(nsjail_run, number):
            assert nsjail_run(["/bin/busybox", "sh", "-c", f"echo number {number}; exit {number}"]).ok
    """)
    result = inner.runpytest_subprocess("-n2")
    result.assert_outcomes(passed=1, failed=3)
    assert sorted(line for line in result.outlines if line[:7].strip() == "number" and line[7:].isdigit()) == ["number 1", "number 2", "number 3"]


def test_a_worker_that_crashes_leaves_no_jail(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import os
        def test_it(nsjail_start):
            jail = nsjail_start(["/bin/busybox", "sleep", "600"])
            with open("pid", "w") as file:
                file.write(str(jail.host_pid))
            os.kill(os.getpid(), 9)
        def test_next(nsjail_run):
            assert nsjail_run(["/bin/busybox", "true"]).ok
            from pathlib import Path
            import time
            deadline = time.monotonic() + 5
            while Path("/proc", Path("pid").read_text()).exists():
                assert time.monotonic() < deadline
    """)
    result = inner.runpytest_subprocess("-n1")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running *test_it*"])


def test_the_doctor_needs_no_worker(inner: pytest.Pytester) -> None:
    result = inner.run(sys.executable, "-m", "pytest", "-n2", "--nsjail-doctor")
    assert result.ret == 0
    assert result.outlines[-1].startswith("Jails can be made here (")

"""Root without CAP_SYS_ADMIN, as a container has it: its jails are a plain user's, and it is root all the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

INNER = """
    import os, pytest
    from pathlib import Path
    from pytest_nsjail import Limits, Unsupported

    def capabilities():
        return [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(("CapEff", "CapPrm"))]

    @pytest.fixture(scope="session")
    def outside():
        return capabilities()

    def test_it_has_what_it_has_outside(outside, tmp_path):
        assert capabilities() == outside
        closed = tmp_path / "closed"
        closed.write_text("read")
        closed.chmod(0)
        assert closed.read_text() == "read"

    @pytest.mark.isolated(False)
    def test_a_limit_that_does_not_bind_it_is_refused(nsjail_run):
        with pytest.raises(Unsupported, match="exempts root from RLIMIT_NPROC"):
            nsjail_run(["/bin/busybox", "true"], limits=Limits(processes=5))
"""
# Containers have no control groups to make others in.
CONFTEST = "import pytest_nsjail.runtime.ground as ground\nground.own_hierarchy = lambda: None\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to be root")
def test_root_of_a_container(inner: pytest.Pytester) -> None:
    inner.makeconftest(CONFTEST)
    inner.makepyfile(INNER)
    command = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-m", "pytest", "--nsjail", f"--basetemp={inner.path}/base"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert " 2 passed in " in done.stdout, done.stdout

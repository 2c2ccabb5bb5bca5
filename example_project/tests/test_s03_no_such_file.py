"""S3: "no such file or directory", for a file that is there: say which one is meant."""

from __future__ import annotations

import subprocess

from pytest_nsjail import File, NotStarted

LOADER = "/lib64/ld-linux-x86-64.so.2"


def needed(program):
    """The libraries that a program names, by the linker's own tools."""
    lines = subprocess.run(["readelf", "-d", program], check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line]


def test_s3_node_without_its_loader(nsjail_run, nsjail_image):
    bare = nsjail_image(File("/usr/bin/node", to="/bin/node"), name="bare node")
    result = nsjail_run(["/bin/node", "-v"], image=bare)
    assert isinstance(result.status, NotStarted)
    message = str(result.status.error)
    assert "/bin/node" in message
    assert LOADER in message
    for library in needed("/usr/bin/node"):
        assert library in message
    assert "Elf('/usr/bin/node', to='/bin/node')" in message


def test_s3_node_with_its_loader_but_without_its_libraries(nsjail_run, nsjail_image):
    bare = nsjail_image(File("/usr/bin/node", to="/bin/node"), File(LOADER), name="node and a loader")
    result = nsjail_run(["/bin/node", "-v"], image=bare)
    assert isinstance(result.status, NotStarted)
    message = str(result.status.error)
    assert "/bin/node" in message
    assert needed("/usr/bin/node")[0] in message
    assert "Elf('/usr/bin/node', to='/bin/node')" in message

"""A static program: the image is one file."""

from __future__ import annotations

import os


def test_busybox_is_a_whole_system(nsjail_run, busybox):
    result = nsjail_run(["/bin/busybox", "sh", "-c", "echo Hello, World | tr a-z A-Z > /tmp/hello; cat /tmp/hello"], image=busybox)
    assert result.ok
    assert result.stdout == "HELLO, WORLD\n"
    assert result.changes.read_text("/tmp/hello") == "HELLO, WORLD\n"


def test_busybox_nothing_else_is_in_the_root(nsjail_run, busybox):
    result = nsjail_run(["/bin/busybox", "find", "/", "-xdev", "-type", "f"], image=busybox)
    # The program, where its symlinks lead, and what the project's hook binds.
    assert set(result.stdout.split()) == {os.path.realpath("/bin/busybox"), "/etc/motd"}

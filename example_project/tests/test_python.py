"""The distribution's Python: its library is a tree, and the extension modules that need libraries are declared as Elf."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_nsjail import Elf, Tree

PROGRAM = Path("/usr/bin/python3")


@pytest.fixture(scope="session")
def python(nsjail_image):
    library = Path("/usr/lib") / PROGRAM.resolve().name
    extensions = [path for name in ("_ssl", "_hashlib", "_sqlite3") for path in library.glob(f"lib-dynload/{name}.*.so")]
    return nsjail_image(
        Elf(PROGRAM),
        Tree(library, exclude=("__pycache__", "config-*", "test")),
        *(Elf(path) for path in extensions),
        entrypoint=[PROGRAM.as_posix()],
        name="python",
    )


def test_python_ssl(nsjail_run, python):
    script = "import hashlib, ssl; ssl.create_default_context(); print(ssl.OPENSSL_VERSION, hashlib.md5(b'').hexdigest())"
    result = nsjail_run(["-c", script], image=python)
    assert result.stderr == ""
    assert result.stdout.startswith("OpenSSL ")
    assert result.stdout.endswith(" d41d8cd98f00b204e9800998ecf8427e\n")


def test_python_sqlite3(nsjail_run, python):
    script = "import sqlite3; base = sqlite3.connect('/tmp/base'); print(*base.execute('select 6 * 7').fetchone()); base.close()"
    result = nsjail_run(["-c", script], image=python)
    assert result.stderr == ""
    assert result.stdout == "42\n"


def test_python_exception(nsjail_run, python):
    result = nsjail_run(["-c", "raise SystemExit('no more')"], image=python)
    assert result.returncode == 1
    assert result.stderr == "no more\n"

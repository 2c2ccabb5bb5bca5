from __future__ import annotations

import pytest

from pytest_nsjail.resolve.script import BadShebang, Shebang, carriage_return, env_program, parse


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"#!/bin/sh\n", Shebang("/bin/sh")),
        (b"#! \t/bin/sh \t -e  -x \t\nrest", Shebang("/bin/sh", "-e  -x")),
        (b"#!/bin/sh", Shebang("/bin/sh")),
        (b"#!sh\n", Shebang("sh")),
        (b"#!/bin/sh\ta b\n", Shebang("/bin/sh", "a b")),
        (b"#!/bin/sh\r\n", Shebang("/bin/sh\r")),
        (b"#!/bin/sh " + b"x" * 300 + b"\n", Shebang("/bin/sh", "x" * 245)),
        (b"echo\n", None),
        (b"", None),
    ],
)  # fmt: skip
def test_first_lines(head, expected):
    assert parse(head[:256]) == expected


@pytest.mark.parametrize("head", [b"#!", b"#!\n", b"#!  \t\n/bin/sh", b"#!/" + b"x" * 300])
def test_bad_first_lines(head):
    with pytest.raises(BadShebang):
        parse(head)


def test_carriage_return():
    assert carriage_return(Shebang("/bin/sh\r"))
    assert carriage_return(Shebang("/usr/bin/env", "python3\r"))
    assert not carriage_return(Shebang("/bin/sh"))


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("node", "node"), ("", None), ("A=1", None), ("-S node --flag", "node"), ("-Snode", "node"), ("-S -i -u X A=1 'my prog' x", "my prog"),
        ("-vS node", "node"), ("--split-string=node -x", "node"), ("-S -C /tmp node", "node"), ("-S", None), ("-S -- node", "node"),
    ],
)  # fmt: skip
def test_what_env_runs(argument, expected):
    assert env_program(argument) == expected


@pytest.mark.parametrize("argument", ["node --flag", "-i node", "-i", "-S 'open"])
def test_what_env_cannot_run(argument):
    with pytest.raises(BadShebang):
        env_program(argument)

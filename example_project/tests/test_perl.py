"""perl: the program is an Elf, its modules are trees."""

from __future__ import annotations

import pytest

from pytest_nsjail import Elf, Tree


@pytest.fixture(scope="session")
def perl(nsjail_image):
    return nsjail_image(
        Elf("/usr/bin/perl"),
        Tree("/usr/lib/x86_64-linux-gnu/perl-base"),
        Tree("/usr/lib/x86_64-linux-gnu/perl"),
        Tree("/usr/share/perl"),
        entrypoint=["/usr/bin/perl"],
        name="perl",
    )


def test_perl_modules_of_perl_and_of_c(nsjail_run, perl):
    script = "use strict; use warnings; use JSON::PP; use Digest::SHA 'sha256_hex'; print encode_json({ok => sha256_hex('')})"
    result = nsjail_run(["-e", script], image=perl)
    assert result.stdout == '{"ok":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}'
    assert result.stderr == ""
    assert result.ok


def test_perl_dies(nsjail_run, perl):
    result = nsjail_run(["-e", "die qq(no more\\n)"], image=perl)
    assert result.returncode == 255
    assert result.stderr == "no more\n"

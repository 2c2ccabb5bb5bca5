"""What a failed test is told of its isolation."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from pytest_nsjail.plugin.because import words
from pytest_nsjail.spec.isolated import IsolatedSpec

TESTS = """
    import os, pathlib, pytest, socket, tempfile, urllib.request

    @pytest.fixture(scope="module")
    def wide():
        with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as server:
            pathlib.Path(directory, "file").write_text("")
            yield directory, server.getsockname()[1]

    def test_it(wide, tmp_path):
        {}
"""
NETWORK = "The test has a network of its own*isolated(network='host')*"
LOCAL = "Its 127.0.0.1 is its own: a server of the host*"
WIDE = "* is a fresh, empty directory here*tmp_path_factory.mktemp(...)*"


def _run(inner: pytest.Pytester, body: str) -> str:
    inner.makepyfile(TESTS.format(body))
    result = inner.runpytest_subprocess("--nsjail", "-p", "no:randomly")
    result.assert_outcomes(failed=1)
    return result.stdout.str()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("urllib.request.urlopen('http://example.com')", NETWORK),
        ("socket.create_connection(('192.0.2.1', 80))", NETWORK),
        ("socket.create_connection(('127.0.0.1', wide[1]))", LOCAL),
        ("pathlib.Path(wide[0], 'file').read_text()", WIDE),
        ("pathlib.Path('~/.netrc').expanduser().read_text()", "The home directory is a fresh, empty directory here*"),
        ("pathlib.Path('/etc/here').write_text('')", "The host's files are read-only here, and so is /etc/here.*isolated(writable=[[]'/etc'[]])*"),
        pytest.param(
            "raise ExceptionGroup('some', [ValueError(), OSError(101, 'unreachable')])", NETWORK,
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="there are none before Python 3.11"),
        ),
    ],
)
def test_what_it_has_to_do_with_a_failure(inner: pytest.Pytester, body: str, said: str) -> None:
    pytest.LineMatcher(_run(inner, body).splitlines()).fnmatch_lines(["*- nsjail: isolated -*", said])


@pytest.mark.parametrize("body", ["assert not tmp_path", "(tmp_path / 'none').read_text()", "pathlib.Path('none').read_text()", "os.kill(os.getpid(), 9)"])
def test_nothing_where_it_has_nothing_to_do_with_it(inner: pytest.Pytester, body: str) -> None:
    assert "nsjail: isolated" not in _run(inner, body)


def test_nothing_of_the_network_where_it_is_the_hosts(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest, socket
        @pytest.mark.isolated(network="host")
        def test_it():
            with socket.create_server(("127.0.0.1", 0)) as server: port = server.getsockname()[1]
            socket.create_connection(("127.0.0.1", port))
    """)
    result = inner.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*nsjail: isolated*")


def test_another_user() -> None:
    spec = IsolatedSpec.declared(user=1234)
    said = words(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/tmp/pytest-of-root/pytest-0"), spec, ())
    assert said.startswith("The test runs as '1234', as declared, and /tmp/pytest-of-root/pytest-0 may be another's")


@pytest.mark.skipif(os.getuid() != 0, reason="a plain user's tests are no other's")
def test_another_user_who_may_not_be_where_the_project_is(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest
        @pytest.mark.isolated(user=1234)
        def test_it(): pass
    """)
    inner.path.chmod(0o700)
    result = inner.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"nsjail: cannot make the jail: go to {inner.path} as uid 1234 (Permission denied, errno 13)*"])

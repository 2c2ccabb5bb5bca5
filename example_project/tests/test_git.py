"""git in an image of its own: a repository, a commit, a log."""

from __future__ import annotations

import pytest

from pytest_nsjail import Elf, Tree


@pytest.fixture(scope="session")
def git(nsjail_image):
    return nsjail_image(
        Elf("/usr/bin/git"),
        # A commit ends with "git maintenance run --auto", which git looks for beside its helpers.
        Elf("/usr/lib/git-core/git"),
        Tree("/usr/share/git-core/templates"),
        Elf("/bin/sh"),
        env={
            "HOME": "/tmp",
            "PATH": "/usr/bin:/bin",
            "GIT_AUTHOR_NAME": "A. Uthor",
            "GIT_AUTHOR_EMAIL": "author@example.org",
            "GIT_COMMITTER_NAME": "C. Ommitter",
            "GIT_COMMITTER_EMAIL": "committer@example.org",
        },
        workdir="/repository",
        name="git",
    )


def test_git_init_commit_log(nsjail_run, git):
    script = """
        set -e
        git init --quiet --initial-branch=main
        echo 'Hello, World' > hello
        git add hello
        git commit --quiet --message='Say hello'
        git log --format='%an: %s'
    """
    result = nsjail_run(["/bin/sh", "-c", script], image=git)
    assert result.ok
    assert result.stdout == "A. Uthor: Say hello\n"
    assert result.stderr == ""
    assert result.changes.read_text("/repository/hello") == "Hello, World\n"
    assert result.changes.read_text("/repository/.git/HEAD") == "ref: refs/heads/main\n"


def test_git_needs_no_image(nsjail_run):
    assert nsjail_run(["/usr/bin/git", "--version"]).stdout.startswith("git version ")

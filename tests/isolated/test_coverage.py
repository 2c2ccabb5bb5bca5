"""coverage, run by itself and by pytest-cov: it covers in jails the very lines and branches that it covers outside, with no configuration of ours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from coverage import CoverageData

UNDER = """
import os, subprocess, sys


def in_process(flag):
    if flag:
        return 1
    return 2


def raising():
    raise ValueError


def in_thread(flag):
    if flag:
        return 1
    return 2


def in_fork(flag):
    if flag:
        os._exit(0)
    os._exit(1)


def in_multiprocessing(queue):
    if queue:
        queue.put(3)
    return in_multiprocessing_too


def in_multiprocessing_too():
    return 4


def in_subprocess(number):
    for turn in range(number):
        if turn > 3:
            break
    else:
        return 0
    return turn


def torn_down():
    return "down"


def never():
    return "never"


if __name__ == "__main__":
    in_subprocess(int(sys.argv[1]))
"""
TESTS = """
import multiprocessing, os, subprocess, sys, threading
import pytest, under

@pytest.fixture(scope="module")
def shared(): return under.in_process(1)
@pytest.fixture
def down():
    yield
    under.torn_down()
@pytest.mark.parametrize("flag", [0, 1])
def test_in_process(flag, down, shared): assert under.in_process(flag) == 2 - flag
def test_fails(): under.raising()
def test_thread():
    thread = threading.Thread(target=under.in_thread, args=(0,))
    thread.start()
    thread.join()
def test_fork():
    if os.fork() == 0: under.in_fork(1)
    os.wait()
def test_multiprocessing():
    fork = multiprocessing.get_context("fork")
    receiving, sending = fork.Pipe()
    class Queue:
        put = sending.send
    process = fork.Process(target=under.in_multiprocessing, args=(Queue(),))
    process.start()
    assert receiving.recv() == 3
    process.join()
def test_subprocess(): subprocess.run([sys.executable, under.__file__, "2"], check=True, stderr=subprocess.STDOUT)
def test_subprocess_elsewhere(tmp_path): subprocess.run([sys.executable, under.__file__, "9"], check=True, cwd=tmp_path)
"""
# Of the code under test, what is run in pytest's own process, in one that a test forks, in one of multiprocessing's, and in another Python.
HERE = {"        return 1", "    return 2", "    raise ValueError", '    return "down"'}
FORKED = {"        os._exit(0)"}
ELSEWHERE = {"        queue.put(3)", "    return in_multiprocessing_too", "            break", "        return 0", "    return turn"}
NEVER = {"    os._exit(1)", "    return 4", '    return "never"'}

Points = dict[tuple[str, str], set[object]]


def _data_files(directory: Path) -> list[Path]:
    return [*directory.glob(".coverage"), *directory.glob(".coverage.*")]


def _measured(directory: Path) -> Points:
    """Of each file and context the lines, or the branches, in all data files of a directory."""
    found: Points = {}
    for data in _data_files(directory):
        covered = CoverageData(str(data))
        covered.read()
        for file in covered.measured_files():
            for context in covered.measured_contexts() if Path(file).parent.name == "project" else ():
                covered.set_query_context(context)
                points = covered.arcs(file) if covered.has_arcs() else covered.lines(file)
                found.setdefault((Path(file).name, context), set()).update(points or ())
    return {key: points for key, points in found.items() if points}


def _texts(measured: Points) -> set[str]:
    """The lines of the code under test that were run, by their texts."""
    points = {point for (file, _), points in measured.items() if file == "under.py" for point in points}
    lines = UNDER.splitlines()
    return {lines[abs(point[1] if isinstance(point, tuple) else point) - 1] for point in points}


@pytest.fixture
def compared(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Points]:
    """Run the tests plain and jailed, and compare what was measured."""
    project, other = inner.mkdir("project"), inner.mkdir("data")
    project.joinpath("pytest.ini").write_text("[pytest]\n")
    project.joinpath("under.py").write_text(UNDER)
    project.joinpath("test_it.py").write_text(TESTS)
    monkeypatch.chdir(project)

    def run(*command: str, config: str | None, data: Path) -> Points:
        for data_file in (*_data_files(project), *_data_files(other)):
            data_file.unlink()
        if config is not None:
            project.joinpath(".coveragerc").write_text(config)
        result = inner.run(sys.executable, "-m", *command, timeout=120)
        result.assert_outcomes(passed=7, failed=1)
        assert "CoverageWarning" not in str(result.stdout) + str(result.stderr)
        # It is kept: nobody says that it is gone.
        result.stdout.no_fnmatch_line("*nsjail: written*")
        return _measured(data)

    def compared(*command: str, config: str | None = None, outside: bool = False) -> Points:
        data = other if outside else project
        plain, jailed = (run(*command, *more, config=config, data=data) for more in ((), ("--nsjail",)))
        assert jailed == plain
        return jailed

    return compared


def test_pytest_cov(compared) -> None:
    texts = _texts(compared("pytest", "-p", "pytest_cov", "--cov"))
    assert texts >= HERE
    assert not texts & (ELSEWHERE | NEVER)


EVERYTHING = "[run]\nbranch = True\nsource = .\npatch = subprocess, _exit\nconcurrency = multiprocessing, thread\nparallel = True\n"


def test_branches_contexts_processes_and_workers_with_data_outside_of_the_project(compared) -> None:
    command = ("pytest", "-p", "xdist", "-p", "pytest_cov", "-n2", "--cov", "--cov-context=test")
    measured = compared(*command, config=EVERYTHING + "data_file = ../data/.coverage\n", outside=True)
    texts = _texts(measured)
    assert texts >= HERE | FORKED | ELSEWHERE
    assert not texts & NEVER
    assert {context for _, context in measured} >= {f"test_it.py::test_{name}|run" for name in ("fails", "thread", "fork")}
    assert "test_it.py::test_in_process[0]|teardown" in {context for _, context in measured}


def test_coverage_run(compared) -> None:
    texts = _texts(compared("coverage", "run", "-m", "pytest", config=EVERYTHING))
    assert texts >= HERE | FORKED | ELSEWHERE
    assert not texts & NEVER


def test_coverage_that_begins_anew_in_forks(compared) -> None:
    config = "[run]\nbranch = True\nsource = .\npatch = fork, _exit\ndynamic_context = test_function\nparallel = True\n"
    measured = compared("coverage", "run", "-m", "pytest", config=config)
    assert _texts(measured) >= HERE | FORKED
    assert "test_it.test_fails" in {context for _, context in measured}

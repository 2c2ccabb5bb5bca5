"""Fidelity: what a session says of its tests is the same with ``--nsjail`` as without, but for durations.

The cases are in ``cases/``. They are run twice at the same place; ``recorder.py`` writes down what the session was told, and the two records are
compared field by field, and so are the terminal's text, the exit status, the order in which fixtures came and went, what is left in the temporary
directory, the cache, and the XML report.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import pytest_nsjail

_HERE = Path(__file__).parent
_PROJECT = str(Path(pytest_nsjail.__file__).parents[1])
_INI = """
[pytest]
pythonpath = .
doctest_optionflags = ELLIPSIS
"""
_ASYNCIO = ["-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function"]
_SUBTESTS = pytest.version_tuple >= (9, 0)

# All that may differ, and why.
_SAME: tuple[tuple[str, str], ...] = (
    (r"0x[0-9a-f]{5,}", "0x..."),  # an object's address
    (r"(started|stopped) \d{12,}", r"\1 0"),  # a thread's identity is an address, too
    (r"\bin \d+\.\d\ds( \(\d+:\d\d:\d\d\))?", "in 0.00s"),  # the session's duration
    (r"\b(Task|Thread)-\d+", r"\1-1"),  # how many its process has had before
    (r"\bwhen=\d+\.\d+", "when=0"),  # what the clock of a loop showed
    (r'"last_cache_date_str": "[^"]*"', '"last_cache_date_str": ""'),  # of --sw
    (r'\b(time|timestamp)="[^"]*"', r'\1=""'),  # the XML report's
    (r"\bgw\d\b", "gw0"),  # the worker on which a test happened to run
)


def _normal(text: str) -> str:
    for pattern, same in _SAME:
        text = re.sub(pattern, same, text)
    # The line is as wide as the terminal, whatever the duration's.
    return re.sub(r"(?m)^.*\bin 0\.00s.*$", lambda line: re.sub("=+", "=", line[0]), text)


@dataclass(frozen=True)
class Run:
    """What one session left to be compared."""

    status: int
    out: str
    err: str
    events: list[dict[str, Any]]
    order: list[str]
    tree: list[str]
    cache: list[str]
    xml: str

    def text(self, ordered: bool) -> list[str]:
        """The terminal's lines; those of a session without an order are sorted."""
        lines = [*self.out.splitlines(), "stderr:", *self.err.splitlines()]
        return lines if ordered else sorted(lines)


@dataclass(frozen=True)
class Options:
    """A way to run the cases.

    :ivar sessions: the arguments of each of the sessions, which follow one upon the other and share a cache.
    :ivar text: whether the terminal's text is compared in its order; else only its lines are.
    :ivar parallel: whether the order of events is left to chance.
    :ivar ahead: whether processes are forked ahead, as for tests in whose protocol nobody but pytest has a part.
    """

    name: str
    sessions: tuple[tuple[str, ...], ...] = ((),)
    env: dict[str, str] = field(default_factory=dict)
    text: bool = True
    parallel: bool = False
    cases: str = "."
    ahead: bool = False


_UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
_STOPPING = [f"test_{name}" for name in ("errors.py", "failures.py", "outcomes.py", "subtests.py", "unittest.py", "xunit.py", "doctests.py", "text.txt")]
_ENDINGS = [f"test_{name}.py" for name in ("exit", "exit_setup", "exit_teardown", "interrupt", "should_stop", "should_fail", "broken_filter")]
_XML = "--junitxml=../report.xml"
OPTIONS = (
    Options("default"),
    Options("-v", (("-v",),)),
    Options("-vv", (("-vv",),)),
    Options("-q", (("-q",),)),
    Options("-rA", (("-rA",),)),
    *(Options(f"--tb={style}", ((f"--tb={style}",),)) for style in ("short", "long", "line", "no")),
    # Here the depth at which Python gives up is told, and the stack of an isolated test is a little deeper.
    Options("--tb=native", (("--tb=native", "--deselect=test_failures.py::test_same_recursion"),)),
    Options("-l", (("-l",),)),
    Options("--full-trace", (("--full-trace", "test_outcomes.py", "test_doctests.py"),)),
    Options("-x", tuple(("-x", name) for name in _STOPPING)),
    Options("-x-teardown", tuple(("-x", "test_errors.py", "-k", name) for name in ("ClassTeardown", "function_teardown", "node_finalizers", "of_the_module"))),
    Options("--maxfail=2", tuple(("--maxfail=2", name) for name in _STOPPING)),
    Options("--lf", ((), ("--lf",), ("--lf", "-x"), ("--ff", "-q"))),
    Options("--sw", (("--sw", "test_failures.py", "test_errors.py"), ("--sw", "test_failures.py", "test_errors.py"), ("--sw", "--sw-skip", "test_errors.py"))),
    Options("--capture=sys", (("--capture=sys",),), _UNBUFFERED),
    Options("--capture=no", (("--capture=no",),), _UNBUFFERED),
    Options("--capture=tee-sys", (("--capture=tee-sys",),), _UNBUFFERED),
    # A buffer that is written twice, or never, is seen where there is one.
    Options("--capture=no-buffered", (("--capture=no",),), text=False),
    Options("--capture=sys-buffered", (("--capture=sys",),), text=False),
    Options("--show-capture=log", (("--show-capture=log", "test_output.py", "test_errors.py"),)),
    # A value that a parametrization alone gives a wider scope (no fixture says so) is set up before the fork, and so before the function's autouse fixtures.
    Options("--setup-show", (("--setup-show", "-k", "not test_much_output and not scope_of_a_parameter and not ScopeOfAParameter"),)),
    Options("--setup-only", (("--setup-only", "-k", "not scope_of_a_parameter and not ScopeOfAParameter"),)),
    Options("--setup-plan", (("--setup-plan", "-k", "not scope_of_a_parameter and not ScopeOfAParameter"),)),
    # The end of the session is another test's on each run, and xdist itself can carry neither a surrogate nor a category that is in no module.
    Options("-n2", (("-p", "xdist", "-n2", "--dist=loadfile", "-k", "not test_session_teardown and not surrogates and not category_of"),), parallel=True),
    Options("--junitxml", ((_XML,), (_XML, "-o", "junit_logging=all"), (_XML, "-o", "junit_family=xunit1"))),
    Options("log_cli", (("-o", "log_cli=true"), ("-o", "log_cli=true", "--log-cli-level=DEBUG", "-s", "test_output.py")), _UNBUFFERED),
    Options("--log-level", (("--log-level=DEBUG", "--log-format=%(levelname)s %(module)s %(message)s", "test_output.py", "test_builtin.py"),)),
    Options("--log-file", (("--log-file=../log.txt", "--log-file-level=INFO", "--log-file-format=%(name)s %(levelname)s %(message)s"),)),
    Options("-W error", (("-W", "error"), ("-W", "error::UserWarning", "-W", "ignore::DeprecationWarning"), ("-W", "ignore"))),
    # By default a place warns once, and a place that was in a jail has not.
    Options("no:warnings", (("-p", "no:warnings"),), {"PYTHONWARNINGS": "always"}),
    Options("--runxfail", (("--runxfail", "test_outcomes.py", "test_unittest.py"),)),
    Options("xfail_strict", (("-o", "xfail_strict=true", "test_outcomes.py", "test_unittest.py"),)),
    Options("retention", (("-o", "tmp_path_retention_policy=failed", "test_builtin.py"), ("-o", "tmp_path_retention_policy=none", "test_builtin.py"))),
    Options("assert-plain", (("--assert=plain", "test_failures.py"),)),
    Options("colour", (("--color=yes", "-rA", "test_failures.py", "test_outcomes.py", "test_doctests.py", "test_unittest.py"),)),
    Options("importlib", (("--import-mode=importlib", "-v"),)),
    *(Options(f"ending-{name}", ((name,), ("-v", name, "test_errors.py::test_function_setup")), cases="endings") for name in _ENDINGS),
)
_AHEAD = (
    "default", "-v", "-rA", "-x", "-x-teardown", "--maxfail=2", "--lf", "--sw", "--show-capture=log", "--junitxml", "--log-level", "--log-file",
    "-W error", "no:warnings", "xfail_strict", "retention", "colour", *(f"ending-{name}" for name in _ENDINGS),
)
OPTIONS += tuple(replace(one, name=f"ahead {one.name}", ahead=True, env={**one.env, "RECORD_AHEAD": "yes"}) for one in OPTIONS if one.name in _AHEAD)


class Twins:
    """The cases in a directory of their own, run plain and jailed at the same place."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self.directory = directory
        self.environ = environ

    @property
    def project(self) -> Path:
        return self.directory / "project"

    def lay(self, more: str = ".", *, ahead: bool = False) -> None:
        """Make the project anew, with nothing left of a session before.

        :param ahead: whether without hooks in the protocol, and what takes a plugin that has some.
        """
        for name in ("project", "base", "report.xml", "log.txt", "record.json"):
            path = self.directory / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        # The directory is writable for its owner alone, and so is what it holds: a test without privileges can read it.
        cases = _HERE / "cases"
        for source in sorted(path for below in {".", "package", more} for path in (cases / below).iterdir() if path.suffix in (".py", ".txt")):
            if (source.name == "case_subtests.py" and not _SUBTESTS) or (source.name == "case_async.py" and ahead):
                continue
            name = source.name.replace("case_conftest", "conftest").replace("case_", "test_")
            target = self.project.joinpath(*(["package"] if source.parent.name == "package" else []), name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            if ahead and name == "conftest.py":
                tree = ast.parse(target.read_text())
                tree.body = [one for one in tree.body if not (isinstance(one, ast.FunctionDef) and one.name.startswith(("pytest_runtest_", "pytest_fixture_")))]
                target.write_text(ast.unparse(tree))
        self.project.joinpath("pytest.ini").write_text(_INI)

    def run(self, *arguments: str, jailed: bool, env: dict[str, str] | None = None) -> Run:
        """One session."""
        record = self.directory / "record.json"
        record.unlink(missing_ok=True)
        plugins = ["-p", "recorder", "-p", "nsjail", *([] if env and "RECORD_AHEAD" in env else _ASYNCIO), *(["--nsjail"] if jailed else [])]
        command = [sys.executable, "-m", "pytest", *plugins, "--basetemp=../base", "--doctest-modules", "--continue-on-collection-errors", *arguments]
        environ = {**self.environ, **(env or {}), "RECORD": str(record)}
        done = subprocess.run(command, cwd=self.project, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        out, err = (_normal(text.decode(errors="surrogateescape")) for text in (done.stdout, done.stderr))
        assert record.exists(), f"no record was written:\n{out}\n{err}"
        events = [_carried(event) for event in json.loads(_normal(record.read_text()))]
        order = self.directory / "base/order.log"
        xml = "".join(_normal(path.read_text()) for path in (self.directory / "report.xml", self.directory / "log.txt") if path.exists())
        lines = order.read_text().splitlines() if order.exists() else []
        return Run(done.returncode, out, err, events, lines, list(_tree(self.directory / "base")), list(_cache(self.project)), xml)


def _carried(event: dict[str, Any]) -> dict[str, Any]:
    """The event with its report's traceback as pytest itself has it after it was sent, by xdist too: what is shown of it is compared besides."""
    if event["event"] != "report":
        return event
    fields = {name: value for name, value in event["fields"].items() if name not in ("$report_type", "_report_type", "_subtest.context")}
    if isinstance(fields["longrepr"], dict) and "tuple" not in fields["longrepr"]:
        fields["longrepr"] = _sent(fields["longrepr"])
    return {**event, "fields": fields}


def _sent(value: Any) -> Any:
    if isinstance(value, list):
        return [_sent(one) for one in value]
    if not isinstance(value, dict):
        return value
    # Of these pytest sends the text alone.
    if {"FixtureLookupErrorRepr", "ReprFailDoctest", "Shown"} & set(value):
        return "text"
    if set(value) == {"tuple"}:
        return _sent(value["tuple"])
    return {name.replace("ReprTracebackNative", "ReprTraceback"): _sent(one) for name, one in value.items()}


def _tree(directory: Path) -> Iterator[str]:
    """What is in a directory: names, modes, contents."""
    for path in sorted(directory.rglob("*")):
        if path.name in ("order.log", ".lock"):
            continue
        status = path.lstat()
        kind = os.readlink(path) if path.is_symlink() else path.read_bytes()[:100].decode(errors="replace") if path.is_file() else "directory"
        yield f"{path.relative_to(directory)} {stat.filemode(status.st_mode)} {kind.replace(str(directory), '')!r}"


def _cache(project: Path) -> Iterator[str]:
    for path in sorted(project.glob(".pytest_cache/v/**/*")):
        if path.is_file():
            yield from (f"{path.name} {line}" for line in _normal(path.read_text()).splitlines())


def _key(event: dict[str, Any]) -> tuple[str, ...]:
    """What an event is about, without what is said of it."""
    fields = event.get("fields", {})
    context = fields.get("context") if isinstance(fields, dict) else None
    return tuple(str(part) for part in (event["event"], event.get("nodeid", ""), fields.get("when", "") if isinstance(fields, dict) else "", context or ""))


def _unlike(plain: Any, jailed: Any, path: str = "") -> Iterator[str]:
    """Where two values differ, each place with both."""
    if isinstance(plain, dict) and isinstance(jailed, dict):
        for name in [*plain, *(name for name in jailed if name not in plain)]:
            yield from _unlike(plain.get(name, "(missing)"), jailed.get(name, "(missing)"), f"{path}.{name}")
    elif isinstance(plain, list) and isinstance(jailed, list) and len(plain) == len(jailed):
        for number, (one, other) in enumerate(zip(plain, jailed, strict=True)):
            yield from _unlike(one, other, f"{path}[{number}]")
    elif plain != jailed or type(plain) is not type(jailed):
        if isinstance(plain, str) and isinstance(jailed, str) and "\n" in plain + jailed:
            yield f"{path}: " + "\n        ".join(_diff(plain.splitlines(), jailed.splitlines()))
        else:
            yield f"{path}:\n      plain:  {plain!r:.600}\n      jailed: {jailed!r:.600}"


def _diff(plain: list[str], jailed: list[str]) -> list[str]:
    lines = [line for line in difflib.unified_diff(plain, jailed, "plain", "jailed", lineterm="", n=1) if not line.startswith(("---", "+++"))]
    return lines if len(lines) < 60 else [*lines[:60], f"... {len(lines) - 60} more lines"]


def differences(plain: Run, jailed: Run, options: Options) -> Iterator[str]:
    """Every difference between two sessions, each as a text."""
    if plain.status != jailed.status:
        yield f"exit status: {plain.status}, jailed {jailed.status}"
    events, others = plain.events, jailed.events
    if options.parallel:
        events, others = (sorted(map(_without_worker, some), key=lambda event: (_key(event), json.dumps(event, sort_keys=True))) for some in (events, others))
    keys, other_keys = ([_key(event) for event in some] for some in (events, others))
    for tag, start, end, other_start, other_end in difflib.SequenceMatcher(None, keys, other_keys, autojunk=False).get_opcodes():
        if tag == "equal":
            for one, other in zip(events[start:end], others[other_start:other_end], strict=True):
                for unlike in _unlike(one, other):
                    yield f"{' '.join(filter(None, _key(one)))}\n    {unlike}"
        else:
            for one in events[start:end]:
                yield f"only plain: {json.dumps(one)[:600]}"
            for one in others[other_start:other_end]:
                yield f"only jailed: {json.dumps(one)[:600]}"
    if options.parallel:
        return
    texts = (("terminal", plain.text(options.text), jailed.text(options.text)), ("order", plain.order, jailed.order), ("tree", plain.tree, jailed.tree))
    for name, one, other in (*texts, ("cache", plain.cache, jailed.cache), ("xml or log file", plain.xml.splitlines(), jailed.xml.splitlines())):
        if one != other:
            yield f"{name}:\n" + "\n".join(_diff(one, other))


def _without_worker(event: dict[str, Any]) -> dict[str, Any]:
    """The event without what tells on which worker it happened."""
    if event["event"] != "report":
        return event
    chance = ("node", "worker_id", "testrun_uid", "item_index")
    return {**event, "fields": {name: value for name, value in event["fields"].items() if name not in chance}}


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "XDG_", "COV_")) or name == "PYTEST_DEBUG_TEMPROOT"}
    path = [_PROJECT, str(_HERE), environ.get("PYTHONPATH")]
    environ |= {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONHASHSEED": "0", "COLUMNS": "120", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return Twins(tmp_path, {**environ, "PYTEST_NSJAIL_STORE": str(tmp_path / "store")})


def _compared(twins: Twins, options: Options, *, jailed: bool = True) -> tuple[list[str], list[Run]]:
    runs: list[list[Run]] = []
    for isolated in (False, jailed):
        twins.lay(options.cases, ahead=options.ahead)
        runs.append([twins.run(*arguments, jailed=isolated, env=options.env) for arguments in options.sessions])
    pairs = zip(options.sessions, *runs, strict=True)
    return [f"{' '.join(arguments)}: {one}" for arguments, *pair in pairs for one in differences(*pair, options)], runs[0]


# All of them take ten minutes. What differs for a plain user is how the child gets into its jail, and not what it does there.
_FEW = ("default", "-rA", "-n2", "--junitxml", "ahead default", "ahead -x")
_CHOSEN = OPTIONS if os.geteuid() == 0 else [options for options in OPTIONS if options.name in _FEW]


@pytest.mark.parametrize("options", _CHOSEN, ids=lambda options: options.name)
def test_a_jailed_session_says_what_a_plain_one_says(twins: Twins, options: Options) -> None:
    # The comparison itself is tried on two plain sessions, for who works on it.
    found, runs = _compared(twins, options, jailed=os.environ.get("NSJAIL_FIDELITY") != "plain")
    assert all(run.events for run in runs)
    assert not found, f"{len(found)} differences:\n" + "\n".join(found)


def test_the_cases_cover_every_outcome(twins: Twins) -> None:
    twins.lay()
    run = twins.run(jailed=False)
    reports = [(event["kind"], event["fields"]) for event in run.events if event["event"] == "report"]
    seen = {(kind, fields["when"], fields["outcome"], "wasxfail" in fields) for kind, fields in reports}
    expected = {
        ("TestReport", when, outcome, wasxfail)
        for when in ("setup", "call", "teardown")
        for outcome, wasxfail in (("passed", False), ("failed", False), ("skipped", False), ("skipped", True), ("passed", True))
    }
    # A phase that is not the call cannot pass against expectation, and one that failed in its tear-down is not expected to.
    expected -= {("TestReport", when, "passed", True) for when in ("setup", "teardown")} | {("TestReport", "teardown", "skipped", True)}
    if _SUBTESTS:
        expected |= {("SubtestReport", "call", outcome, False) for outcome in ("passed", "failed", "skipped")}
    assert not expected - seen
    kinds = {next(iter(fields["longrepr"])) if isinstance(fields["longrepr"], dict) else type(fields["longrepr"]).__name__ for _, fields in reports}
    assert {"ExceptionChainRepr", "tuple", "str", "NoneType"} <= kinds


class TestWhatIsDocumented:
    """The differences that an isolated test must have."""

    def test_properties_that_are_objects_become_their_text(self, twins: Twins) -> None:
        runs = []
        for jailed in (False, True):
            twins.lay("objects")
            runs.append(twins.run("--junitxml=../report.xml", "test_properties.py", jailed=jailed))
        plain, jailed_run = runs
        assert plain.status == jailed_run.status == 0
        assert plain.xml == jailed_run.xml

    def test_a_fixture_of_a_higher_scope_that_is_asked_for_by_name_is_the_tests_own(self, twins: Twins) -> None:
        twins.lay("documented")
        run = twins.run("test_dynamic.py", jailed=True)
        assert run.status == 0
        warned = [(event["nodeid"].partition("::")[2], event["message"]) for event in run.events if event["event"] == "warning"]
        assert [name for name, _ in warned] == ["test_module", "test_module_again", "test_session"]
        assert all("late_" in message and "request it as an argument" in message for _, message in warned)
        order = [line for line in run.order if line.startswith("late")]
        assert order == [*["late module up", "late module down"] * 2, *["late session up", "late session down"] * 2]

    def test_what_a_test_writes_in_the_project_is_gone_and_told(self, twins: Twins) -> None:
        twins.lay("documented")
        run = twins.run("test_writing.py", jailed=True)
        assert run.status == 0
        assert not (twins.project / "written.txt").exists()
        told = ["".join(text for title, text in _pairs(event) if title.startswith("nsjail")) for event in run.events if event["event"] == "report"]
        assert sum("written.txt" in text for text in told) == 2


def _pairs(event: dict[str, Any]) -> list[list[str]]:
    return [section["tuple"] for section in event["fields"]["sections"]]


class TestTheComparison:
    """A comparison that finds nothing would be no proof."""

    @pytest.mark.parametrize(
        ("place", "value"),
        [("outcome", "failed"), ("sections", []), ("longrepr", "text"), ("user_properties", [["a", 1]]), ("keywords", {}), ("wasxfail", "reason")],
    )
    def test_a_changed_report_is_found(self, twins: Twins, place: str, value: object) -> None:
        twins.lay()
        run = twins.run("test_outcomes.py::test_failed", "test_outcomes.py::test_passed", jailed=False)
        assert not list(differences(run, run, OPTIONS[0]))
        changed = json.loads(json.dumps(run.events))
        report = next(event for event in changed if event["event"] == "report" and event["fields"]["when"] == "setup")
        report["fields"][place] = value if report["fields"].get(place) != value else "other"
        assert len(list(differences(run, Run(**{**vars(run), "events": changed}), OPTIONS[0]))) == 1

    @pytest.mark.parametrize("name", ["status", "out", "err", "order", "tree", "cache", "xml"])
    def test_a_changed_session_is_found(self, twins: Twins, name: str) -> None:
        twins.lay()
        run = twins.run("test_scopes.py", "-k", "test_parameters", jailed=False)
        before = getattr(run, name)
        other: object = before + 1 if isinstance(before, int) else [*before, "more"] if isinstance(before, list) else f"{before}more\n"
        assert len(list(differences(run, Run(**{**vars(run), name: other}), OPTIONS[0]))) == 1

    def test_a_missing_report_is_found(self, twins: Twins) -> None:
        twins.lay()
        run = twins.run("test_outcomes.py::test_passed", jailed=False)
        for number, event in enumerate(run.events):
            less = Run(**{**vars(run), "events": run.events[:number] + run.events[number + 1 :]})
            assert list(differences(run, less, OPTIONS[0])), event
            assert list(differences(less, run, OPTIONS[0])), event

"""The two hooks: one changes every jail before it is made, one sees every result."""

from __future__ import annotations

import pytest


def _adding(name: str) -> str:
    """A conftest whose hook puts one more letter in an environment variable, so that the order can be seen."""
    return f"""
from dataclasses import replace
def pytest_nsjail_spec(config, spec):
    env = dict(spec.env)
    return replace(spec, env=(*((k, v) for k, v in spec.env if k != "SEEN"), ("SEEN", env.get("SEEN", "") + "{name}")))
"""


def _tests(*, seen: str | None) -> str:
    return f"""
def test_it(nsjail_run, nsjail_start, nsjail_image):
    from pytest_nsjail import Elf
    image = nsjail_image(Elf("/bin/busybox"))
    for result in (nsjail_run(["/bin/busybox", "env"]), nsjail_start(["/bin/busybox", "env"]).wait(), image.stage(["/bin/busybox", "env"]).result):
        assert dict(line.split("=", 1) for line in result.stdout.splitlines()).get("SEEN") == {seen!r}
"""


def test_every_spec_hook_sees_what_the_one_before_it_returned_for_the_tests_beside_it(inner: pytest.Pytester) -> None:
    inner.makeconftest(_adding("a"))
    for name in ("left", "right"):
        inner.mkdir(name)
    (inner.path / "test_root.py").write_text(_tests(seen="a"))
    (inner.path / "left/conftest.py").write_text(_adding("b"))
    (inner.path / "left/test_left.py").write_text(_tests(seen="ba"))
    (inner.path / "right/test_right.py").write_text(_tests(seen="a"))
    inner.runpytest_subprocess().assert_outcomes(passed=3)


def test_pluggys_order_holds_and_none_changes_nothing(inner: pytest.Pytester) -> None:
    inner.makeconftest(_adding("a").replace("def pytest", "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest"))
    inner.makepyfile(last="import pytest\n" + _adding("z").replace("def pytest", "@pytest.hookimpl(trylast=True)\ndef pytest"))
    inner.makepyfile(nothing="def pytest_nsjail_spec(spec): return None")
    inner.makepyfile(silent="def pytest_nsjail_spec(): pass")
    inner.makepyfile(test_it=_tests(seen="az"))
    inner.runpytest_subprocess("-p", "last", "-p", "nothing", "-p", "silent").assert_outcomes(passed=1)


def test_a_spec_hook_may_add_a_mount_and_a_stricter_limit(inner: pytest.Pytester) -> None:
    inner.makeconftest("""
        from dataclasses import replace
        from pytest_nsjail import Bind, Limits

        def pytest_nsjail_spec(config, spec):
            return replace(spec, mounts=(*spec.mounts, Bind(config.rootpath / "given", "/etc/given")), limits=Limits(open_files=17), hostname="changed")
    """)
    inner.path.joinpath("given").write_text("to all\n")
    inner.makepyfile("""
        def test_it(nsjail_run):
            result = nsjail_run(["/bin/busybox", "sh", "-c", "cat /etc/given; ulimit -n; hostname"], check=True)
            assert result.stdout.split() == ["to", "all", "17", "changed"]
    """)
    inner.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize("nonsense", ["42", "'spec'", "spec.argv", "False"])
def test_a_spec_hook_that_returns_nonsense_is_an_error_that_says_who(inner: pytest.Pytester, nonsense: str) -> None:
    inner.makeconftest(f"def pytest_nsjail_spec(spec): return {nonsense}")
    inner.makepyfile("def test_it(nsjail_run): nsjail_run(['/bin/busybox', 'true'])")
    result = inner.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "E*SpecError: pytest_nsjail_spec in *conftest.py: it returned *. Return dataclasses.replace(spec, ...), or None.",
        "test_*.py:1: SpecError",
    ])


def test_an_error_in_a_hook_ends_in_the_hooks_line(inner: pytest.Pytester) -> None:
    inner.makeconftest("""
        from dataclasses import replace
        from pytest_nsjail import Bind

        def pytest_nsjail_spec(spec):
            return replace(spec, mounts=(Bind("relative", "/etc/given"),))  # the culprit
    """)
    inner.makepyfile("def test_it(nsjail_run): nsjail_run(['/bin/busybox', 'true'])")
    result = inner.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*# the culprit", "E*SpecError: Bind('relative', '/etc/given'): *", "conftest.py:5: SpecError"])
    assert "pytest_nsjail/" not in result.stdout.str()


def test_the_finished_hook_sees_every_result_once(inner: pytest.Pytester) -> None:
    inner.makeconftest("""
        import pytest
        SEEN = []

        def pytest_nsjail_finished(config, spec, result):
            assert isinstance(config, pytest.Config)
            SEEN.append((spec, result))

        @pytest.fixture(scope="session")
        def seen():
            return SEEN
    """)
    inner.makepyfile("""
        import pytest
        from pytest_nsjail import Elf

        @pytest.fixture(scope="session")
        def from_a_fixture(nsjail_run):
            return nsjail_run(["/bin/busybox", "echo", "fixture"])

        def test_it(nsjail_run, nsjail_start, nsjail_image, from_a_fixture, seen):
            stage = nsjail_image(Elf("/bin/busybox")).stage(["/bin/busybox", "echo", "stage"])
            run = nsjail_run(["/bin/busybox", "false"])
            waited = nsjail_start(["/bin/busybox", "echo", "waited"])
            assert waited.wait() is waited.wait() is waited.stop()
            never = nsjail_run(["/bin/busybox", "true"], image=nsjail_image(Elf("/bin/busybox"), entrypoint=["/bin/busybox"], cmd=["x"]))
            assert [result for _, result in seen] == [from_a_fixture, stage.result, run, waited.wait(), never]
            assert [spec.command() for spec, _ in seen] == [result.argv for _, result in seen]
            live = nsjail_start(["/bin/busybox", "sleep", "600"])
            assert live.run(["/bin/busybox", "echo", "more"]) is seen[-1][1]

        def test_after(seen):
            assert len(seen) == 7
            assert str(seen[-1][1].status) == "killed by SIGTERM"
    """)
    inner.runpytest_subprocess().assert_outcomes(passed=2)


def test_the_finished_hook_of_a_conftest_sees_the_tests_beside_it(inner: pytest.Pytester) -> None:
    for name in ("left", "right"):
        inner.mkdir(name)
        (inner.path / name / f"test_{name}.py").write_text(f"def test_it(nsjail_run): nsjail_run(['/bin/busybox', 'echo', '{name}'])")
        (inner.path / name / "conftest.py").write_text(f"def pytest_nsjail_finished(result): print('{name} saw', result.stdout)")
    inner.runpytest_subprocess("-s").stdout.fnmatch_lines(["*left saw left", "*right saw right"])
    result = inner.runpytest_subprocess("-s")
    result.stdout.no_fnmatch_line("*left saw right*")
    result.stdout.no_fnmatch_line("*right saw left*")


def test_hooks_take_the_arguments_they_want(inner: pytest.Pytester) -> None:
    inner.makepyfile(calls="CALLS = []")
    inner.makeconftest("""
        from calls import CALLS
        def pytest_nsjail_spec(spec): CALLS.append("spec")
        def pytest_nsjail_finished(result): CALLS.append(result.stdout)
    """)
    inner.makepyfile(other="""
        from calls import CALLS
        def pytest_nsjail_spec(config): CALLS.append("config")
        def pytest_nsjail_finished(): CALLS.append("nothing")
    """)
    inner.makepyfile(test_it="""
        from calls import CALLS
        def test_it(nsjail_run):
            nsjail_run(["/bin/busybox", "echo", "-n", "out"])
            assert sorted(CALLS) == ["config", "nothing", "out", "spec"]
    """)
    inner.syspathinsert()
    inner.runpytest_subprocess("-p", "other").assert_outcomes(passed=1)


def test_a_hook_that_does_not_exist_is_refused(inner: pytest.Pytester) -> None:
    inner.makeconftest("def pytest_nsjail_spec(spek): pass")
    result = inner.runpytest_subprocess()
    assert result.ret != 0
    assert "spek" in result.stdout.str() + result.stderr.str()

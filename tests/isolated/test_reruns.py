"""pytest-rerunfailures: a test in a jail is tried again as often as outside, each time in a jail of its own."""

from __future__ import annotations

import pytest

FLAKY = """
import os, pytest

@pytest.fixture(scope="session")
def base(tmp_path_factory): return tmp_path_factory.getbasetemp()
@pytest.fixture
def turn(base, request):
    with open(base / request.node.name, "a+") as file:
        file.write("x")
        return file.tell()
@pytest.fixture(scope="module")
def shared(base):
    with open(base / "order", "a") as file: file.write("shared up\\n")
    yield
    with open(base / "order", "a") as file: file.write("shared down\\n")
@pytest.fixture
def own(base, request):
    with open(base / "order", "a") as file: file.write(f"{request.node.name} up\\n")
    yield
    with open(base / "order", "a") as file: file.write(f"{request.node.name} down\\n")
@pytest.fixture(scope="class")
def fragile(base):
    with open(base / "fragile", "a+") as file:
        file.write("x")
        file.flush()
        assert file.tell() > 1

def test_passes(own, shared): pass
def test_the_second_time(turn, own, shared): assert turn > 1
@pytest.mark.flaky(reruns=3)
def test_the_fourth_time(turn, own, shared, record_property):
    record_property("turn", turn)
    print("turn", turn)
    assert turn > 3
def test_never(own): assert 0
@pytest.mark.flaky(reruns=2, condition=False)
def test_not_again(): assert 0
@pytest.mark.flaky(reruns=2, only_rerun="OSError")
def test_only_one_error(turn):
    if turn == 1: raise OSError
    raise ValueError
@pytest.mark.flaky(reruns=2, rerun_except="AssertionError")
def test_but_one_error(): assert 0
@pytest.mark.flaky(reruns=1, reruns_delay=0.01)
def test_with_a_delay(turn): assert turn > 1
@pytest.mark.xfail
def test_expected(): assert 0
@pytest.fixture
def fails_first(turn): assert turn > 1
def test_setup(fails_first): pass
@pytest.fixture
def fails_last(turn):
    yield
    assert turn > 1
def test_teardown(fails_last): pass
class TestHigher:
    def test_a_higher_fixture(self, fragile): pass
    def test_next(self, fragile): pass
"""


@pytest.mark.parametrize("arguments", [(), ("-p", "xdist", "-n2", "--dist=loadscope")], ids=["alone", "workers"])
def test_as_often_as_outside(inner: pytest.Pytester, plain_and_jailed, arguments: tuple[str, ...]) -> None:
    inner.makepyfile(test_it=FLAKY)
    orders = []

    def clean() -> None:
        order = inner.path.with_name(f"{inner.path.name}.base") / "order"
        if order.exists():
            orders.append(order.read_text())

    plain, jailed = plain_and_jailed("-p", "rerunfailures", "--reruns=1", "-rR", *arguments, sort=bool(arguments), clean=clean)
    clean()
    assert jailed.result.parseoutcomes()["rerun"] == plain.result.parseoutcomes()["rerun"] == 10
    if not arguments:
        assert orders[0] == orders[1]
        assert orders[0].count("shared up") == 1


def test_a_death_is_tried_again(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import os
        def test_it(tmp_path_factory):
            with open(tmp_path_factory.getbasetemp() / "turns", "a+") as file:
                file.write("x")
                file.flush()
                if file.tell() < 3: os.kill(os.getpid(), 11)
            assert os.getpid() == 2
    """)
    result = inner.runpytest_subprocess("-p", "rerunfailures", "--nsjail", "--reruns=2", "-rR")
    result.assert_outcomes(passed=1)
    assert result.parseoutcomes()["rerun"] == 2

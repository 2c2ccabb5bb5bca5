"""The conftest.py of the cases: hooks and fixtures as users write them."""

from __future__ import annotations

import os
import sys

import pytest

import helper


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    config.addinivalue_line("markers", "note(text): a marker of the cases")
    config.addinivalue_line("markers", "extra: attach something to the report")
    # Outside of basetemp it could not be written; the directory must be there before pytest empties it.
    if config.option.basetemp:
        os.environ["ORDER_LOG"] = str(config._tmp_path_factory.getbasetemp() / "order.log")


def pytest_runtest_setup(item):
    helper.note(f"hook setup {item.name}")
    if item.get_closest_marker("note"):
        print(f"conftest setup {item.name}")


def pytest_runtest_teardown(item):
    helper.note(f"hook teardown {item.name}")
    if item.get_closest_marker("note"):
        print(f"conftest teardown {item.name}")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    helper.note(f"hook pyfunc {pyfuncitem.name}")
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    if fixturedef.argname.startswith("ordered"):
        helper.note(f"hook fixture_setup {fixturedef.argname}")
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    # The recipe of the documentation: fixtures see their test's result.
    setattr(item, f"rep_{report.when}", report)
    if item.get_closest_marker("extra"):
        report.extra = ["text", {"of": report.when}]
        report.sections.append(("Extra", f"section of the {report.when}"))
        report.user_properties.append(("when", report.when))
    return report


def pytest_assertrepr_compare(op, left, right):
    if isinstance(left, Money) and isinstance(right, Money) and op == "==":
        return ["Comparing Money:", f"   {left.amount} != {right.amount}"]
    return None


def pytest_report_teststatus(report):
    if report.when == "call" and "noted" in report.keywords and report.passed:
        return "noted", "N", ("NOTED", {"purple": True})
    return None


class Money:
    def __init__(self, amount):
        self.amount = amount


@pytest.fixture
def money():
    return Money


@pytest.fixture(scope="session")
def ordered_session():
    helper.note("session up")
    yield ["session"]
    helper.note("session down")


@pytest.fixture(scope="package")
def ordered_package(ordered_session):
    helper.note("package up")
    yield [*ordered_session, "package"]
    helper.note("package down")


@pytest.fixture(scope="module")
def ordered_module(ordered_package):
    helper.note("module up")
    yield [*ordered_package, "module"]
    helper.note("module down")


@pytest.fixture(scope="class")
def ordered_class(ordered_module):
    helper.note("class up")
    yield [*ordered_module, "class"]
    helper.note("class down")


@pytest.fixture
def ordered_function(ordered_class):
    helper.note("function up")
    yield [*ordered_class, "function"]
    helper.note("function down")


@pytest.fixture
def ordered_other():
    helper.note("other up")
    yield "other"
    helper.note("other down")


@pytest.fixture
def watching(request):
    yield
    call = getattr(request.node, "rep_call", None)
    print(f"the test {call.outcome if call else 'has not run'}", file=sys.stderr)


@pytest.fixture
def added_marker(request):
    request.applymarker(pytest.mark.xfail(reason="added by a fixture"))

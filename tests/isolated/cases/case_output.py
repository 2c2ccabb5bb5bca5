"""Output and log in each phase."""

import logging
import os
import subprocess
import sys

import pytest

import helper


@pytest.fixture
def speaking():
    helper.speak("set-up")
    yield
    helper.speak("tear-down")


@pytest.fixture(scope="module")
def speaking_module():
    helper.speak("module set-up")
    yield
    helper.speak("module tear-down")


def test_passed(speaking):
    helper.speak("call")


def test_failed(speaking):
    helper.speak("call")
    raise AssertionError("after output")


def test_skipped(speaking):
    helper.speak("call")
    pytest.skip("after output")


@pytest.mark.xfail(reason="after output")
def test_xfailed(speaking):
    helper.speak("call")
    raise AssertionError


def test_of_the_module(speaking_module, speaking):
    helper.speak("call")
    raise AssertionError("after output")


@pytest.mark.note("from hooks too")
def test_hooks_speak(speaking):
    helper.speak("call")
    raise AssertionError("after output")


def test_error_in_teardown(broken_teardown):
    helper.speak("call")


@pytest.fixture
def broken_teardown(speaking):
    yield
    helper.speak("broken tear-down")
    raise ValueError("after output")


def test_bytes():
    sys.stdout.flush()
    os.write(1, b"\xff\xfe\x80 no utf-8 \xc3\n")
    os.write(2, b"nul \x00 and \x1b[32mgreen\x1b[0m\n")
    raise AssertionError("bytes")


def test_surrogates():
    print("printed: größer ☃ 𝔘")
    try:
        print("\udcff")
    except UnicodeEncodeError as error:
        print(f"not encodable: {error.reason}")
    raise AssertionError("surrogates")


def test_colours():
    print("\x1b[31mred\x1b[0m and \x1b[1mbold")
    print("carriage\rreturn\ttab\x0bvertical\x0cform\x85next\u2028line")
    raise AssertionError("colours")


def test_no_newline():
    print("no newline", end="")
    sys.stderr.write("nor here")
    raise AssertionError("no newline")


def test_much_output():
    for number in range(5000):
        print(f"line {number} {'x' * 60}")
    raise AssertionError("much")


def test_child_process():
    subprocess.run([sys.executable, "-c", "import sys; print('from a process'); print('its stderr', file=sys.stderr)"], check=True)
    raise AssertionError("a process")


def test_stdin():
    sys.stdin.read()


def test_input():
    input("prompt: ")


def test_levels():
    logger = logging.getLogger("levels")
    logger.debug("debug")
    logger.info("info")
    logger.warning("warning %s", "argument")
    logger.error("error\nof two lines")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logger.exception("with a traceback")
    raise AssertionError("logged")


def test_log_level(caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("levels").debug("debug is shown")
    raise AssertionError("logged")


def test_log_of_phases(logging_phases, caplog):
    logging.getLogger("phases").warning("in the call")
    assert [record.message for record in caplog.get_records("setup")] == ["in the set-up"]
    assert [record.message for record in caplog.get_records("call")] == ["nothing"]


@pytest.fixture
def logging_phases():
    logging.getLogger("phases").warning("in the set-up")
    yield
    logging.getLogger("phases").warning("in the tear-down")


def test_own_section(request):
    request.node.add_report_section("call", "own", "text of an own section")
    request.node.add_report_section("setup", "late", "text of an earlier phase")
    raise AssertionError("with sections")


def test_sections_of_a_passed_one(request):
    request.node.add_report_section("call", "own", "shown with -rA only")


@pytest.mark.extra
def test_extra(speaking):
    helper.speak("call")
    raise AssertionError("with an extra")


def test_properties(record_property):
    record_property("text", "größer ☃")
    record_property("number", 17)
    record_property("float", 1.5)
    record_property("none", None)
    record_property("flag", True)
    record_property("text", "the same name again")


def test_properties_of_a_failed_one(record_property):
    record_property("before", 1)
    raise AssertionError("with a property")


def test_structured_properties(record_property, request):
    record_property("tuple", (1, "two", (3,)))
    record_property("list", [1, [2]])
    record_property("dict", {"a": 1, "b": {"c": [2]}})
    request.node.user_properties.append(("direct", "added"))


def test_property_in_a_fixture(with_property):
    pass


@pytest.fixture
def with_property(record_property):
    record_property("set-up", 1)
    yield
    record_property("tear-down", 2)


def test_capture_disabled(capsys):
    print("captured")
    with capsys.disabled():
        print("on the terminal")
    print("captured again")
    raise AssertionError("in between")


def test_result_in_a_fixture(watching):
    raise AssertionError("watched")


def test_result_in_a_fixture_passed(watching, broken_teardown):
    pass


@pytest.fixture(scope="module")
def server():
    """Writes a line where pytest's own process writes, and answers, for each that it reads."""
    echo = "import os\nwhile said := os.read(0, 100):\n    os.write(2, b'from a server: ' + said)\n    os.write(1, said)\n"
    server = subprocess.Popen([sys.executable, "-c", echo], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield server
    server.communicate()


@pytest.mark.parametrize("number", [1, 2])
def test_server_of_the_module(server, speaking, number):
    helper.speak("before")
    os.write(server.stdin.fileno(), b"%d\n" % number)
    assert os.read(server.stdout.fileno(), 100) == b"%d\n" % number
    raise AssertionError("a server spoke")


@pytest.fixture
def shown_late(capfd):
    yield
    with capfd.disabled():
        print("on the terminal at the tear-down")


def test_shown_late(shown_late):
    pass

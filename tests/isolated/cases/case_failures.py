"""Tracebacks of every shape."""

import sys

import pytest

import helper


class Shape:
    def __init__(self, sides):
        self.sides = sides

    def area(self):
        return self.sides[0] / self.sides[1]


def test_nested_frames():
    helper.deep(3)


def test_local_helper():
    def inner(value):
        twice = value * 2
        assert twice == value

    for number in (0, 1):
        inner(number)


def test_cause():
    try:
        int("no number")
    except ValueError as error:
        raise RuntimeError("with a cause") from error


def test_context():
    try:
        {}["missing"]
    except KeyError:
        helper.deep(1)


def test_no_context():
    try:
        {}["missing"]
    except KeyError:
        raise RuntimeError("context suppressed") from None


def test_chain_of_three():
    try:
        try:
            Shape([1, 0]).area()
        except ZeroDivisionError as error:
            raise ValueError("second") from error
    except ValueError:
        raise helper.OwnError(3, "third")


def test_assertion_with_cause():
    try:
        assert {"a": 1} == {"a": 2}
    except AssertionError as error:
        raise LookupError("after an assertion") from error


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no exception groups")
class TestGroups:
    def test_group(self):
        raise ExceptionGroup("two", [ValueError("one"), TypeError("other")])

    def test_nested_group(self):
        def failing():
            raise ExceptionGroup("inner", [KeyError("deep"), OSError(2, "No such file")])

        try:
            failing()
        except ExceptionGroup as group:
            raise ExceptionGroup("outer", [group, ValueError("flat")]) from None

    def test_group_with_cause(self):
        try:
            raise ExceptionGroup("first", [ValueError("a")])
        except ExceptionGroup as group:
            raise RuntimeError("second") from group

    def test_group_of_skips(self):
        raise ExceptionGroup("skips", [pytest.skip.Exception("one"), pytest.skip.Exception("two")])

    def test_notes(self):
        error = ValueError("with notes")
        error.add_note("first note")
        error.add_note("second note")
        raise error


def test_same_recursion():
    def forever():
        forever()

    forever()


def test_long_list():
    assert list(range(200)) == list(range(100)) + [0] + list(range(101, 200))


def test_long_text():
    assert "\n".join(f"line {number}" for number in range(100)) == "\n".join(f"line {number}" for number in range(0, 100, 3))


def test_long_dict():
    assert {f"key {number}": "x" * number for number in range(40)} == {f"key {number}": "x" * (number % 7) for number in range(45)}


def test_sets():
    assert {1, 2, 3} == {3, 4}


def test_bytes():
    assert b"\x00\xff\x80abc" == b"\x00\xfe\x80abc"


def test_in():
    assert "needle" in "hay" * 50


def test_approx():
    assert [0.1, 0.2] == pytest.approx([0.1, 0.3])


def test_object():
    assert Shape([1]) == Shape([2])


def test_own_comparison(money):
    assert money(1) == money(2)


def test_bad_repr():
    bad = helper.BadRepr()
    assert bad is None


def test_locals():
    number = 17
    text = "x" * 300
    many = list(range(1000))
    shape = Shape((3, 4))
    raise LookupError(f"{number} {len(text)} {len(many)} {len(shape.sides)}")


def test_surrogates_in_message():
    raise ValueError("a lone \udcff surrogate and \ud800 another")


def test_control_characters_in_message():
    raise ValueError("escape \x1b[31mred\x1b[0m, nul \x00, bell \x07, carriage\rreturn")


def test_unicode_in_message():
    raise ValueError("größer ☃ 𝔘𝔫𝔦 \u202e right to left \u200b zero width")


def test_message_of_lines():
    raise ValueError("first\nsecond\n\n    indented\n")


def test_empty_message():
    raise ValueError


def test_no_text():
    raise helper.OwnError(1, "")


def test_unprintable_exception():
    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError("no str")

    raise Unprintable


def test_system_exit_with_text():
    sys.exit("a text")


def test_generator_exit():
    raise GeneratorExit


def test_base_exception():
    class Own(BaseException):
        pass

    raise Own("neither Exception nor known")


def test_stop_iteration():
    next(iter(()))


def test_os_error():
    open("/no/such/file")


def test_unicode_error():
    b"\xff".decode()


def test_hidden_frame():
    helper.check([])


def test_compiled():
    exec(compile("def made():\n    raise ValueError('from a text')\nmade()", "<text>", "exec"), {})


def test_syntax_error():
    compile("a b c", "text.py", "exec")


def test_raises_nothing():
    with pytest.raises(ValueError):
        pass


def test_raises_other():
    with pytest.raises(ValueError, match="expected"):
        raise ValueError("unexpected")


def test_warns_nothing():
    with pytest.warns(UserWarning):
        pass


def test_lambda():
    (lambda value: value / 0)(1)


def test_comprehension():
    [1 / number for number in (1, 0)]


class TestMethod:
    """The arguments are shown."""

    @pytest.mark.parametrize("argument", ["text", b"bytes", None, 1.5])
    def test_arguments(self, argument, tmp_path, request):
        assert isinstance(argument, dict)


def test_multi_line_assert():
    assert (
        1
        + 2
        + 3
        == 7
    ), "a sum"


def test_failing_with_output():
    helper.speak("failing")
    raise AssertionError("after output")

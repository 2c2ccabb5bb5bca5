"""Doctests of a module.

>>> 1 + 1
2
"""


def passing():
    """Pass.

    >>> passing()
    1
    >>> print("größer ☃")
    größer ☃
    """
    return 1


def failing():
    """Fail.

    >>> failing()
    2
    >>> never_shown
    """
    return 1


def raising():
    """Raise.

    >>> x = 1
    >>> raising()
    """
    raise ValueError("raised in a doctest")


def skipping():
    """Skip.

    >>> skipping()  # doctest: +SKIP
    """


def skipped_inside():
    """Skip by call.

    >>> import pytest
    >>> pytest.skip("in a doctest")
    """


def speaking():
    """Speak.

    >>> import helper
    >>> helper.note("doctest")
    >>> helper.deprecated()
    2
    """


def with_fixture():
    """Have fixtures.

    >>> path = getfixture("tmp_path")
    >>> path.is_dir()
    True
    """


class Documented:
    """A class.

    >>> Documented().value
    3
    """

    value = 4

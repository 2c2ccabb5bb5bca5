"""A module whose tear-down fails."""


def teardown_module():
    raise ValueError("teardown_module")


def test_one():
    pass


def test_two():
    raise AssertionError("the last")

"""A module whose set-up fails."""


def setup_module():
    raise ValueError("setup_module")


def test_one():
    pass


class TestClass:
    def test_two(self):
        pass

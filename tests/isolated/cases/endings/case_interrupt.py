"""A test that is interrupted."""


def test_before():
    pass


def test_interrupted():
    raise KeyboardInterrupt


def test_never():
    raise AssertionError

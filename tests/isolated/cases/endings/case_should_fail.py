"""A test that asks the session to fail."""


def test_asking(request):
    request.session.shouldfail = "a test wanted it"


def test_never():
    raise AssertionError

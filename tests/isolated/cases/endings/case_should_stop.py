"""A test that asks the session to stop."""


def test_asking(request):
    request.session.shouldstop = "a test wanted it"


def test_never():
    raise AssertionError

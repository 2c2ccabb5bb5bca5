"""Files of the project that a test writes: they are gone after it."""

import pathlib


def test_cache(cache):
    cache.set("own/value", 1)
    assert cache.get("own/value", None) == 1


def test_beside(request):
    path = pathlib.Path(request.node.path).with_name("written.txt")
    assert not path.exists()
    path.write_text("text")
    assert path.read_text() == "text"


def test_beside_again(request):
    test_beside(request)

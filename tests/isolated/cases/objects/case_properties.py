"""Properties that are no plain data."""

import decimal
import pathlib


class Own:
    def __repr__(self):
        return "<own>"


def test_objects(record_property):
    record_property("path", pathlib.Path("/a/b"))
    record_property("decimal", decimal.Decimal("1.50"))
    record_property("own", Own())
    record_property("bytes", b"\xff")
    record_property("set", {1})
    record_property("keys", {1: "one", None: "none"})
    record_property("type", int)


def test_surrogate(record_property):
    record_property("surrogate", "\udcff")

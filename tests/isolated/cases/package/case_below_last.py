"""The last module of the package: its tear-down comes here."""

import helper


def test_last_of_the_package(ordered_package, broken_package):
    helper.note("last of the package")

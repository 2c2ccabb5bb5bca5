"""What a test may add to the XML report."""

import pytest


@pytest.mark.filterwarnings("ignore")
def test_attribute(record_xml_attribute):
    record_xml_attribute("assertions", "17")


def test_suite_property(record_testsuite_property):
    record_testsuite_property("of the suite", "added by a test")


@pytest.fixture(scope="module")
def recorded(record_testsuite_property):
    record_testsuite_property("of the suite", "added by a fixture")


def test_suite_property_of_a_fixture(recorded):
    pass

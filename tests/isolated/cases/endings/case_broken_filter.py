"""A mark that cannot be read: pytest gives the session up."""

import pytest


@pytest.mark.filterwarnings("broken filter:::")
def test_broken_filter():
    pass

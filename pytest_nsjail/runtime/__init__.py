"""The order of things: what happens from a declaration to a result, and the values a test holds meanwhile."""

from pytest_nsjail.runtime.flow import Runtime

__all__ = ["Runtime"]

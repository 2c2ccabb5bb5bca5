"""Test suites of other projects, run with and without ``--nsjail``: ``python -m tests.suites [names]``."""

"""Thousands of isolated tests in one session: whether anything grows, and whether the last ones are as quick as the first."""

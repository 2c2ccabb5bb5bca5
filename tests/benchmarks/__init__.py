"""Benchmarks: ``python -m tests.benchmarks`` in the project's folder. No test, and no verdict."""

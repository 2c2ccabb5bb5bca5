"""Hermetic tests on Linux: programs in throwaway root file systems and fresh namespaces, from pytest."""

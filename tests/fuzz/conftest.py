"""Fixtures of these tests: those of the tests of faults."""

from tests.faults.conftest import children, memory

__all__ = ["children", "memory"]

"""What can go wrong with a measurement."""


class BenchmarkError(Exception):
    """A measurement did not come about; says which and why."""

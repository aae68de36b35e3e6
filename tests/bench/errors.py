"""What can go wrong in a measurement."""


class BenchError(Exception):
    """A measurement that cannot be had; says why."""

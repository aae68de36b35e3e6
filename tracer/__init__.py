"""Who causes TCP TIME_WAIT, why, and what to change."""

__version__ = "0.1.0"

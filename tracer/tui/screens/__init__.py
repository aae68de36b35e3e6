"""Screens: which panels there are, and where."""

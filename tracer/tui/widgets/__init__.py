"""Thin widgets: they put on the screen what a view-model says."""

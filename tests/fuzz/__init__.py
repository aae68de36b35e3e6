"""Hostile traces."""

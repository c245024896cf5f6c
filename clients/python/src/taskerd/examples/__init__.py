"""Handlers to look at and to try things with."""

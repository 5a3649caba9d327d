"""Command lines around a run: looking at it, measuring it, explaining it."""

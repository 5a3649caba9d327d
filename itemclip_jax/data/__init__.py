"""Data: a stored study -> model input. No JAX in here."""

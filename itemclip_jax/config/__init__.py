"""Settings of a run: one typed schema, no JAX."""

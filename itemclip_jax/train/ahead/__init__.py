"""Compiling for chips that are not here, and reading what the compiler says."""

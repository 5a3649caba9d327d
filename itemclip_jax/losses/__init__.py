"""Losses: arrays in, scalars out; no Flax, no devices."""

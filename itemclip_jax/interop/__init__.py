"""Weights of other programs as parameters of ours, and nothing of torch."""

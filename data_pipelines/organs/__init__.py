"""Masks of organs, and what a report says of each."""

"""Digits on a ground, and what is said of them: the parts of digit_scenes."""

"""Vision-language models that learn from itemised text, in JAX and Flax."""

__version__ = "0.1.0"

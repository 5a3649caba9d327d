"""Settings of a small model for pictures."""

from itemclip_jax.config import schema
from tests import tiny

VISION = {"tower": "vit", "volume_shape": (3, 24, 24), "patch": (3, 8, 8),
          "series_embedding": "none", "study_blocks": ()}
TEXT = {"tower": "clip", "dropout": 0.0}


def config(**changes) -> schema.Config:
  """`tiny.config` with the 2-D towers; `changes` are sections as there."""
  sections = {"vision": VISION, "text": TEXT, "data": {"max_series": 1}}
  return tiny.config(**sections | {
      name: sections.get(name, {}) | values
      for name, values in changes.items()})

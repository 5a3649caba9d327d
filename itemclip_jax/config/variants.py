"""Variants of a config file: `configs/chest_ct.py:released,smoke`."""

from collections.abc import Callable, Mapping

import ml_collections

from itemclip_jax.errors import UserError


def apply(
    config: ml_collections.ConfigDict,
    wanted: str,
    known: Mapping[str, Callable[[ml_collections.ConfigDict], None]],
) -> ml_collections.ConfigDict:
  """Edits `config` by each of the comma-separated variants, in their order.

  Raises:
    UserError: a variant is not known.
  """
  for name in filter(None, wanted.split(",")):
    if name not in known:
      raise UserError(f"Unknown variant {name!r}; have {sorted(known)}, "
                      "joined by commas where you want several.")
    known[name](config)
  return config


def shrink(config: ml_collections.ConfigDict):
  """Makes towers and batches small enough for two steps on a laptop."""
  config.vision.update(width=48, depth=3, num_heads=4, mlp_ratio=2.0,
                       name_encoder=(32, 1, 2, 32), drop_path=0.0)
  config.text.update(max_items=4, max_tokens=16, vocab_size=512, width=32,
                     depth=1, num_heads=2, mlp_width=64, dropout=0.0)
  config.joint.update(width=32, num_heads=4)
  config.train.update(global_batch=8, steps=2, warmup_steps=1, log_every=1)
  config.eval.update(batch=8, bootstrap=20, min_positives=1)

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
  config.eval.update(evaluators=("zeroshot_auc",), batch=8, bootstrap=20,
                     min_positives=1)


def adapt(config: ml_collections.ConfigDict):
  """Goes on from a finished model, on a set of its own.

  A tenth of the rate of training from scratch: at the full one a fresh
  optimiser would undo within the warm-up what the model knows.
  """
  config.train.start_from = "runs/converted"  # what tools.convert wrote
  config.optimizer.learning_rate /= 10
  config.train.warmup_steps = 100
  config.train.epochs = 5.0


def pictures(config: ml_collections.ConfigDict):
  """What the two 2-D domains share: ViT-B/16, CLIP text, diverse sampling."""
  config.data.max_series = 1
  config.vision.update(
      tower="vit", volume_shape=(3, 224, 224), patch=(3, 16, 16),
      series_embedding="none", study_blocks=(), drop_path=0.0, scan=True)
  config.text.update(
      tower="clip", max_tokens=100, vocab_size=49408, width=512, depth=12,
      num_heads=8, mlp_width=2048, dropout=0.0, diverse_max_merge=3,
      diverse_prob=0.5, scan=True, remat="block",
      remat_keeps=("qkv", "attention"))
  config.optimizer.eps = 1e-8


def scenes(config: ml_collections.ConfigDict):
  """`smoke` of the 2-D domains: two steps on digit_scenes."""
  shrink(config)
  config.data.root = "runs/digit_scenes"
  config.vision.update(volume_shape=(3, 64, 64), patch=(3, 8, 8))

"""ItemizedCLIP on natural images (Itemized-cc0.3M): captions as items.

    python -m itemclip_jax.main --config=configs/natural_images.py \\
        --config.data.root=DIR --workdir=runs/cc

DIR is what `python -m data_pipelines.prepare --dataset=itemized_cc` made. The
values are those of the paper's Table 12 (Lyu et al. 2025,
https://arxiv.org/abs/2512.11141); `:released` is what the public script passed;
`:smoke` takes two steps of a small model on `digit_scenes`; `:adapt` goes on,
gently, from --config.train.start_from. They compose.
"""

from itemclip_jax.config import schema, variants


def get_config(variant: str = ""):
  """Only what differs from `schema.Config`."""
  config = schema.defaults()
  config.data.dataset = "itemized_cc"
  config.data.valid_split = ""                # the set has one split
  variants.pictures(config)
  config.text.max_items = 7
  config.text.diverse_count = "to_max"

  config.loss.iis_weight = 0.1
  config.loss.mps_weight = 0.1
  config.loss.kta_weight = 0.2
  config.loss.kta_rate = 0.2
  config.loss.token_drop_rate = 0.1
  config.loss.uwp_factor = 2.0

  config.optimizer.learning_rate = 5e-4
  config.optimizer.weight_decay = 0.8
  config.train.global_batch = 1024
  config.train.epochs = 60.0
  config.train.warmup_steps = 2000
  config.eval.evaluators = ("retrieval",)
  return variants.apply(config, variant,
                        {"released": released, "smoke": variants.scenes,
                         "adapt": variants.adapt})


def released(config):
  """8 devices of 128 pictures; KTA, masking and worst positive differ."""
  config.loss.groups = 8
  config.loss.kta_weight = 1.0
  config.loss.token_drop_rate = 0.2
  config.loss.uwp_factor = 1.5
  config.train.epochs = 100.0

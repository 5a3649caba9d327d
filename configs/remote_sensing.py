"""ItemizedCLIP on remote sensing (RSICD): pictures, deduplicated captions.

    python -m itemclip_jax.main --config=configs/remote_sensing.py \\
        --config.data.root=DIR --workdir=runs/rsicd

DIR is what `python -m data_pipelines.prepare --dataset=rsicd` made. The values
are those of the paper's Table 12 (Lyu et al. 2025,
https://arxiv.org/abs/2512.11141); `:released` is what the public script passed;
`:smoke` takes two steps of a small model on `digit_scenes`; `:adapt` goes on,
gently, from --config.train.start_from. They compose.
"""

from itemclip_jax.config import schema, variants


def get_config(variant: str = ""):
  """Only what differs from `schema.Config`."""
  config = schema.defaults()
  config.data.dataset = "rsicd"
  variants.pictures(config)
  config.text.max_items = 6
  config.text.diverse_count = "to_items"
  config.text.padding = "placeholder"

  config.loss.iis_weight = 1.0
  config.loss.mps_weight = 2.0
  config.loss.kta_weight = 1.5
  config.loss.kta_rate = 0.2
  config.loss.token_drop_rate = 0.4
  config.loss.uwp_factor = 2.0

  config.optimizer.learning_rate = 3e-4
  config.optimizer.weight_decay = 1.5
  config.train.global_batch = 1024
  config.train.epochs = 120.0
  config.train.examples_per_epoch = 10_240
  config.train.warmup_steps = 100
  config.eval.evaluators = ("rsicd",)
  return variants.apply(config, variant,
                        {"released": released, "smoke": variants.scenes,
                         "adapt": variants.adapt})


def released(config):
  """8 devices of 128 pictures, a weaker worst positive, a shorter run."""
  config.loss.groups = 8
  config.loss.uwp_factor = 1.5
  config.train.epochs = 100.0

"""ItemizedCLIP on head CT: window views as series, HLIP-SN, findings as items.

    python -m itemclip_jax.main --config=configs/head_ct.py \\
        --config.data.root=DIR --workdir=runs/head

DIR holds records at 48x224x224 in which the brain, blood and bone window of a
series are three series of their own. The values are those of the paper's Table
12 (Lyu et al. 2025, https://arxiv.org/abs/2512.11141); `:released` is what the
public script passed, a copy of the one for brain MRI; `:smoke` takes two steps
of a small model on the data of the demo; `:adapt` goes on, gently, from
--config.train.start_from. They compose.
"""

from itemclip_jax.config import schema, variants


def get_config(variant: str = ""):
  """Only what differs from `schema.Config`."""
  config = schema.defaults()
  config.data.dataset = "head_ct"
  config.data.max_series = 10

  config.vision.volume_shape = (48, 224, 224)
  config.vision.patch = (8, 16, 16)           # 6 x 14 x 14 tokens a series
  config.vision.study_blocks = (2, 5, 8, 11)  # the others attend in a series
  config.vision.drop_path = 0.2
  config.vision.remat = "block"
  config.vision.scan = True

  config.text.max_items = 7
  config.text.max_tokens = 256
  config.text.remat = "block"
  config.text.scan = True

  config.loss.iis_weight = 1.0
  config.loss.mps_weight = 0.1
  config.loss.kta_weight = 1.0
  config.loss.kta_rate = 0.05
  config.loss.token_drop_rate = 0.1
  config.loss.uwp_factor = 1.5

  config.optimizer.learning_rate = 1.75e-4
  config.optimizer.weight_decay = 0.5
  config.train.global_batch = 256
  config.train.epochs = 21.0
  config.train.warmup_steps = 2000
  return variants.apply(config, variant,
                        {"released": released, "smoke": smoke,
                         "adapt": variants.adapt})


def released(config):
  """8 devices of 32 studies, and the weights of the brain MRI script."""
  config.loss.groups = 8
  config.loss.mps_weight = 0.01
  config.optimizer.weight_decay = 0.2
  config.train.epochs = 24.0


def smoke(config):
  """Two steps on the data of `./run.sh demo`, MRI in place of CT."""
  variants.shrink(config)
  config.data.root = "runs/demo/data"
  config.data.max_series = 3
  config.vision.volume_shape = (24, 48, 48)
  config.vision.patch = (6, 12, 12)
  config.vision.study_blocks = (2,)

"""The demo: brain MRI phantoms, learnt in minutes on two CPU cores.

    python -m data_pipelines.prepare --dataset=phantom_brain \\
        --out=runs/demo/data
    python -m itemclip_jax.main --config=configs/demo.py --workdir=runs/demo

or both, with evaluation and report, by `./run.sh demo`. ItemizedCLIP with the
HLIP-SN tower, all four losses, in a size that two cores can train.
"""

from itemclip_jax.config import schema, variants


def get_config(variant: str = ""):
  """Only what differs from `schema.Config`."""
  config = schema.defaults()
  config.data.dataset = "phantom_brain"
  config.data.root = "runs/demo/data"
  config.data.max_series = 5

  config.vision.volume_shape = (24, 48, 48)  # 6.25 x 3.75 x 3.75 mm voxels
  config.vision.patch = (6, 12, 12)          # 4 x 4 x 4 tokens of about 4 cm
  config.vision.width = 72
  config.vision.depth = 2
  config.vision.num_heads = 4
  config.vision.study_blocks = (1,)
  config.vision.name_length = 16
  config.vision.name_encoder = (64, 1, 4, 128)
  config.vision.drop_path = 0.0

  config.text.max_items = 6
  config.text.max_tokens = 24
  config.text.vocab_size = 512
  config.text.width = 64
  config.text.depth = 2
  config.text.num_heads = 4
  config.text.mlp_width = 128
  config.text.dropout = 0.0
  config.text.word_init = 1.0
  config.joint.width = 64

  # All starts from scratch and ends after minutes: words that differ and an
  # attention that is not flat at first; key tokens as few as a lesion covers; a
  # bias from the prior of a positive pair (-10 hardly moves in so few steps).
  config.joint.query_key_gain = 3.0
  config.loss.kta_rate = 0.02
  config.loss.mps_weight = 1.0
  config.loss.init_logit_bias = "prior"
  config.optimizer.learning_rate = 1.5e-3
  config.optimizer.weight_decay = 0.05
  config.train.global_batch = 16
  config.train.steps = 2400
  config.train.warmup_steps = 50
  config.train.log_every = 20
  config.train.save_every = 300
  config.eval.evaluators = ("zeroshot_auc", "segmentation")
  config.eval.top_tokens = 2
  config.eval.untrained = True
  return variants.apply(config, variant,
                        {"smoke": smoke, "itemized": itemized})


def itemized(config):
  """Items that rules found in free-text reports, not the generator's own:

      python -m data_pipelines.prepare --dataset=phantom_brain \\
          --report=free_text --out=runs/itemized/data
  """
  config.data.root = "runs/itemized/data"


def smoke(config):
  """Two small steps, for tests and a first look."""
  config.train.update(steps=2, global_batch=8, warmup_steps=1, log_every=1)
  config.eval.update(batch=8, bootstrap=20, min_positives=1)

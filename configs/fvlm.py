"""fVLM on chest and body CT: every organ is contrasted with what is said of it.

    python -m itemclip_jax.main --config=configs/fvlm.py:released \\
        --config.data.root=DIR --workdir=runs/fvlm

Without a variant the recipe of the paper on MedVL-CT69K, which is not public
(Shui et al. 2025, https://arxiv.org/abs/2501.14548): self-attention over the
last tokens, all organs count, co-teaching. `:released` is the public code on
CT-RATE: four organs, cross-attention over four levels, equal texts are pairs,
one model. `:phantom` is a small one for `phantom_chest` that two cores train in
minutes; `:smoke` takes two steps of it.

Both start from public weights, which are not shipped: set
--config.vision.pretrained to an MAE ViT-B and --config.text.pretrained to a
folder with BERT-base (paper) or CXR-BERT (code). Their cosine ends at 1e-6,
ours at 0; the code moves it once an epoch, we every step.
"""

from itemclip_jax.config import schema, variants


def get_config(variant: str = ""):
  """Only what differs from `schema.Config`."""
  config = schema.defaults()
  config.objective = "fvlm"
  config.data.dataset = "medvl_ct69k"
  config.data.max_series = 1
  # Without flips, which the code makes: a mirrored scan has left and right
  # exchanged, its texts have not.
  config.data.crop = "organ"

  config.vision.tower = "vit3d"
  config.vision.volume_shape = (96, 256, 384)   # 5 x 1 x 1 mm
  config.vision.patch = (16, 16, 32)
  config.vision.study_blocks = ()
  config.vision.series_embedding = "none"
  config.vision.dropout = 0.1
  config.vision.drop_path = 0.0
  config.vision.remat = "block"

  config.text.form = "organs"
  config.text.max_items = 35   # rows of the grouping table; the paper counts 36
  config.text.max_tokens = 384
  config.joint.organs = 35
  config.joint.width = 256
  config.joint.pooling = "similarity"
  config.joint.organ_pool = "self"

  config.fvlm.equal_texts = "different"
  config.fvlm.organs = "all"
  config.fvlm.co_teaching = "on"
  config.fvlm.burn_in_steps = 5 * (64_476 // 48)

  config.optimizer.learning_rate = 1e-4
  config.optimizer.weight_decay = 0.0           # Adam
  config.optimizer.beta2 = 0.999
  config.optimizer.eps = 1e-8
  config.train.global_batch = 48
  config.train.epochs = 20.0
  config.train.examples_per_epoch = 64_476      # one scan of each patient
  config.train.warmup_steps = 64_476 // 48 // 2  # epoch 1, half for each model
  config.eval.evaluators = ("organ_zeroshot",)
  return variants.apply(config, variant,
                        {"released": released, "phantom": phantom,
                         "smoke": smoke})


def released(config):
  """The public code on CT-RATE, on 4 devices of 14 scans."""
  config.data.dataset = "ct_rate"
  config.data.valid_split = ""                  # CT-RATE has two splits: its
  config.data.test_split = "valid"              # valid one is what is reported
  config.data.crop = "random"
  config.data.flip_rate = 0.2
  config.vision.volume_shape = (112, 256, 352)  # 3 x 1 x 1 mm
  config.vision.levels = (3, 6, 9)
  config.text.max_items = 4
  config.joint.organs = 4
  config.joint.organ_pool = "cross"
  config.fvlm.update(equal_texts="same", organs="abnormal", co_teaching="off",
                     burn_in_steps=0)
  config.optimizer.weight_decay = 0.01
  config.train.global_batch = 56
  config.train.examples_per_epoch = 377 * 56    # steps of its warm-up epoch
  config.train.warmup_steps = 377
  config.dtype = "float32"


def phantom(config):
  """phantom_chest from scratch; the code's model and loss, which learn faster.

  The window is deeper than the scans, which end within lungs, aorta and
  oesophagus: padded, these are cut by no crop and count.
  """
  config.data.dataset = "phantom_chest"
  config.data.root = "runs/phantom_chest"
  config.vision.update(
      volume_shape=(36, 56, 56), patch=(6, 8, 8), width=72, depth=3,
      num_heads=4, mlp_ratio=2.0, levels=(0, 1), dropout=0.0, remat="none")
  config.text.update(
      max_items=10, max_tokens=48, vocab_size=512, width=64, depth=2,
      num_heads=4, mlp_width=128, dropout=0.0, word_init=1.0)
  config.joint.update(organs=10, width=64, organ_pool="cross",
                      organ_dropout=0.0)
  config.fvlm.update(equal_texts="same", organs="abnormal", co_teaching="off",
                     burn_in_steps=0)
  config.optimizer.learning_rate = 1.5e-3
  config.optimizer.weight_decay = 0.05
  config.train.update(global_batch=16, steps=1200, warmup_steps=50,
                      log_every=20, save_every=300)
  config.eval.untrained = True


def smoke(config):
  """Two steps on phantom_chest, with the model and loss that were chosen."""
  variants.shrink(config)
  config.data.dataset = "phantom_chest"
  config.data.root = "runs/phantom_chest"
  config.vision.update(volume_shape=(36, 56, 56), patch=(12, 8, 8), dropout=0.0,
                       levels=(0, 1) if config.vision.levels else ())
  config.text.max_items = 10
  config.joint.organs = 10
  config.fvlm.burn_in_steps = 1
  config.train.examples_per_epoch = 0
  config.eval.evaluators = ("organ_zeroshot",)

"""MedFILIP on frontal chest radiographs: labels, explanations, soft targets.

    python -m itemclip_jax.main --config=configs/medfilip.py \\
        --config.data.root=DIR --config.medfilip.similarity_encoder=FOLDER \\
        --workdir=runs/medfilip

DIR is a built set of pictures with triplets, FOLDER a local sentence encoder
(the paper's is bioClinicalBERT, the code's mpnet, which is no BERT). The values
are the paper's (Liang et al., IEEE JBHI 2025) and, where it is silent, those of
the public code; `:released` is what the code does; `:phantom` trains on two
cores on `phantom_radiograph`; `:smoke` takes two steps of it with hard targets,
which need no encoder. They compose.

The paper starts from CLIP's weights, the code from ImageNet's: for those of a
file set --config.vision.pretrained=FILE --config.vision.norm=frozen_batch.
"""

from itemclip_jax.config import schema, variants


def get_config(variant: str = ""):
  """Only what differs from `schema.Config`."""
  config = schema.defaults()
  config.objective = "medfilip"
  config.data.dataset = "mimic_cxr"
  variants.pictures(config)
  config.vision.update(
      tower="resnet", scan=False, volume_shape=(3, 448, 448), patch=(3, 32, 32),
      width=64, stages=(3, 4, 6, 3), num_heads=1)  # it has no attention
  config.text.update(form="triplets", max_items=8, max_tokens=77,
                     diverse_max_merge=0)
  config.joint.update(width=768, pooling="similarity")

  config.medfilip.same_category_only = "no"
  config.medfilip.knowledge = "paper"

  config.optimizer.update(
      name="sgd", learning_rate=0.006, weight_decay=1e-4,
      cycles=50, min_learning_rate=1e-6)         # two epochs each
  config.train.update(global_batch=32, epochs=100.0, warmup_steps=0)
  config.eval.evaluators = ("medfilip_16", "medfilip_fg", "medfilip_covid")
  return variants.apply(config, variant, {
      "released": released, "phantom": phantom, "smoke": smoke})


def released(config):
  """The code's loss and targets; nothing is masked; less and slower."""
  config.medfilip.update(
      loss="code", same_category_only="yes", knowledge="code",
      mask_severity=0.0, mask_location=0.0)
  config.optimizer.learning_rate = 1e-4
  config.optimizer.cycles = 10
  config.train.epochs = 20.0


def phantom(config):
  """Minutes on two cores, from scratch; our defaults for what is open.

      python -m data_pipelines.prepare --dataset=phantom_radiograph \\
          --out=runs/phantom_radiograph
  """
  config.data.dataset = "phantom_radiograph"
  config.data.root = "runs/phantom_radiograph"
  config.vision.update(volume_shape=(3, 96, 96), patch=(3, 16, 16), width=16,
                       stages=(1, 1, 1))
  config.text.update(max_items=6, vocab_size=1024, width=64, depth=2,
                     num_heads=4, mlp_width=128, word_init=1.0)
  config.joint.update(width=64, num_heads=4)
  config.medfilip.same_category_only = "yes"
  config.medfilip.knowledge = "code"
  # SGD without momentum hardly moves new weights in so few steps.
  config.optimizer.update(name="adamw", learning_rate=1e-3, weight_decay=0.05,
                          cycles=1, min_learning_rate=0.0)
  config.train.update(global_batch=16, steps=1500, warmup_steps=50,
                      log_every=20, save_every=300)
  config.eval.evaluators = ("medfilip_phantom", "medfilip_phantom_fg")


def smoke(config):
  """Two small steps, for tests and a first look."""
  phantom(config)
  config.medfilip.targets = "hard"
  config.train.update(steps=2, global_batch=8, warmup_steps=1, log_every=1)
  config.eval.update(batch=8, bootstrap=20, min_positives=1)

"""eCLIP on chest radiographs: reports, and where experts looked.

    python -m itemclip_jax.main --config=configs/eclip.py \\
        --config.data.root=DIR --workdir=runs/eclip

Without a variant the paper's eCLIP with Swin-T (Kumar and Marttinen 2024,
https://arxiv.org/abs/2403.10153); `:released` is the public code's. What it is
compared with: `:clip`, `:naive`, `:dacl`; and from a trained `:clip` in
--config.train.start_from, `:continual` (its eCLIP^P) and `:m3_mix`. Its
ablation: `:naive` (+E), `:mixed` (+E, M), `:unprimed` (+E, M, C). Other towers:
`:vit_small`, `:vit_base`, `:resnet`; all start alike, while the public code
takes other weights for the expert ViT-B than for the plain one. `:phantom` is a
small model for `phantom_radiograph` that two cores train in minutes, `:smoke`
takes two steps of it. They compose: `:naive,phantom`.

Not as there: the temperature is learnt as the logarithm of its inverse, with
tau in 0.01 .. 1, by the optimiser of the rest (there tau itself, 0.01 .. 2);
pictures are standardised as CLIP's; contrast-limited histogram equalisation,
which the code has and the paper denies, is left out; training does not stop
early. Weights are not shipped: set --config.text.pretrained to a folder with
Bio_ClinicalBERT and, for a ViT, --config.vision.pretrained.
"""

from itemclip_jax.config import schema, variants


def get_config(variant: str = ""):
  """Only what differs from `schema.Config`."""
  config = schema.defaults()
  config.objective = "eclip"
  config.data.dataset = "mimic_cxr"
  config.data.max_series = 1
  config.data.crop_area = (0.5, 1.0)
  config.data.expert_batch = 256     # the code: half of the others

  config.vision.update(
      tower="swin", volume_shape=(3, 224, 224), patch=(3, 32, 32), width=96,
      num_heads=3, stages=(2, 2, 6, 2), series_embedding="none",
      study_blocks=(), drop_path=0.0, heatmap_width=256)
  config.text.form = "report"
  config.text.max_items = 1
  config.text.max_tokens = 256
  config.joint.pooling = "similarity"

  config.optimizer.learning_rate = 2e-4
  config.optimizer.weight_decay = 1e-3
  config.optimizer.eps = 1e-8
  config.train.global_batch = 512
  config.train.steps = 10_000
  config.train.warmup_steps = 1000
  config.eval.checkpoint = "best"
  return variants.apply(config, variant, {
      "released": released, "clip": clip, "naive": naive, "mixed": mixed,
      "unprimed": unprimed, "continual": continual, "dacl": dacl,
      "m3_mix": m3_mix, "vit_small": vit_small, "vit_base": vit_base,
      "resnet": resnet, "phantom": phantom, "smoke": smoke})


def released(config):
  """One draw of lambda and chance a step, maps by the batch's maximum."""
  config.eclip.update(alpha=0.2, prime_weight=0.3, p_end=0.05,
                      lambda_per="batch", draw_per="step",
                      heatmap_scale="batch")
  config.text.max_tokens = 128


def clip(config):
  """The base: no experts. Its model has the processor, and does not use it."""
  config.objective = "clip"
  config.data.expert_batch = 0
  config.optimizer.learning_rate /= 2


def naive(config):
  """Processed images at every step, and nothing else."""
  config.eclip.update(mixing="none", curriculum="off", prime_weight=0.0)


def mixed(config):
  """With mixup, without curriculum and priming."""
  config.eclip.update(curriculum="off", prime_weight=0.0)


def unprimed(config):
  """With mixup and curriculum."""
  config.eclip.prime_weight = 0.0


def continual(config):
  """Starts from a trained CLIP."""
  config.train.update(start_from="runs/clip", steps=1000, warmup_steps=100)
  config.optimizer.learning_rate /= 20


def dacl(config):
  """Mixtures with other images from the start."""
  clip(config)
  config.objective = "dacl"


def m3_mix(config):
  """Mixtures on the sphere, from a trained CLIP."""
  continual(config)
  config.objective = "m3_mix"
  config.data.expert_batch = 0


def vit_small(config):
  """ViT-S/16."""
  config.vision.update(tower="vit", family="imagenet", patch=(3, 16, 16),
                       width=384, num_heads=6)


def vit_base(config):
  """ViT-B/16."""
  config.vision.update(tower="vit", family="imagenet", patch=(3, 16, 16),
                       width=768, num_heads=12)


def resnet(config):
  """ResNet-50."""
  config.vision.update(tower="resnet", width=64, num_heads=1,
                       stages=(3, 4, 6, 3))


def phantom(config):
  """phantom_radiograph from scratch, with a ViT."""
  config.data.dataset = "phantom_radiograph"
  config.data.root = "runs/phantom_radiograph"
  if config.data.expert_batch:
    config.data.expert_batch = 16
  config.vision.update(
      tower="vit", volume_shape=(3, 96, 96), patch=(3, 12, 12), width=96,
      depth=3, num_heads=4, mlp_ratio=2.0, heatmap_patch=12, heatmap_width=64,
      heatmap_heads=4)
  config.text.update(
      max_tokens=96, vocab_size=512, width=64, depth=2, num_heads=4,
      mlp_width=128, dropout=0.0, word_init=1.0)
  config.joint.width = 64
  config.optimizer.learning_rate *= 5
  config.optimizer.weight_decay = 0.05
  config.train.update(global_batch=32, log_every=20, save_every=300,
                      steps=config.train.steps // 8,
                      warmup_steps=config.train.warmup_steps // 8)
  config.eval.untrained = True


def smoke(config):
  """Two steps on phantom_radiograph, with the objective that was chosen."""
  phantom(config)
  variants.shrink(config)
  config.text.max_items = 1
  config.train.start_from = ""
  if config.data.expert_batch:
    config.data.expert_batch = 8

"""The systems that ItemizedCLIP is compared with, on its data and towers.

    python -m itemclip_jax.main --config=configs/baselines.py:flair \\
        --config.data.root=DIR --workdir=runs/flair

Variants: a system, the domain whose config it starts from, and `smoke` (two
small steps on embedded data), in any order, as in `flair,natural_images,smoke`.

    clip siglip multi_positive dreamlip flair llip      remote_sensing
    hlip hlip_sentence hlip_dual hlip_raw hlip_organ    chest_ct

The right column is the domain where none is named; brain_mri and natural_images
are others. Towers, tokenizer, optimiser and initial values are the domain's for
all, as the paper has it (Lyu et al. 2025, https://arxiv.org/abs/2512.11141):
only texts and loss differ, and the recipe of HLIP on chest CT.
"""

from configs import brain_mri, chest_ct, natural_images, remote_sensing
from itemclip_jax.config import variants

# Domain -> its config and its smoke variant.
_DOMAINS = {
    "brain_mri": (brain_mri.get_config, brain_mri.smoke),
    "chest_ct": (chest_ct.get_config, chest_ct.smoke),
    "natural_images": (natural_images.get_config, variants.scenes),
    "remote_sensing": (remote_sensing.get_config, variants.scenes),
}


def get_config(variant: str = ""):
  """Only what differs from the domain's config; without a system, CLIP's."""
  wanted = [name for name in variant.split(",") if name]
  domain = "remote_sensing"
  if any(name.startswith("hlip") for name in wanted):
    domain = "chest_ct"
  domain = next((name for name in wanted if name in _DOMAINS), domain)
  make, shrink = _DOMAINS[domain]
  systems = [name for name in wanted if name not in (domain, "smoke")]
  config = variants.apply(make(), ",".join(systems) or "clip", _SYSTEMS)
  if "smoke" in wanted:
    slots = config.text.max_items
    shrink(config)
    if config.text.form != "items":
      config.text.max_items = slots
  return config


def clip(config):
  """All items as one text. Its softmax leaves the logit bias alone."""
  config.objective = "clip"
  _one_text(config, "report")
  # It learns no attention of texts to tokens; evaluators compare them plainly.
  config.joint.pooling = "similarity"


def siglip(config):
  """As CLIP, pairwise.

  The scale starts at 1 / 0.07 and the bias at -10, as for all systems in the
  code base of FLAIR and ItemizedCLIP; SigLIP's own start is a scale of 10.
  """
  clip(config)
  config.objective = "siglip"


def multi_positive(config):
  """All items as K texts, diverse sampling where the domain has it.

  loss.normal_check stays on: this is ItemizedCLIP's global term by itself.
  Pictures have no normal studies.
  """
  config.objective = "multi_positive"
  config.joint.pooling = "similarity"


def dreamlip(config):
  """K texts as above; captions of one image compete for its tokens.

  `--config.baselines.grouping_over=batch` is the reading of the public code,
  why it is not the default stands in `config/systems.py`. Both terms weigh 1
  and sigma is 0, as in the code; the paper's sigma, 1 / tokens, is -1.
  """
  multi_positive(config)
  config.objective = "dreamlip"


def flair(config):
  """K texts, TCS and MPS in equal parts.

  TCS is divided by the length of a list, as FLAIR's code does, since this is
  FLAIR; `--config.baselines.flair_divisor=images` is ItemizedCLIP's change, and
  flair_mps_weight=0 is TCS alone.
  """
  config.objective = "flair"


def llip(config):
  """The text that CLIP gets, 64 mixture tokens as in the paper's ViT-B.

  Attention maps show those tokens, not places; leave `segmentation` out.
  """
  config.objective = "llip"
  _one_text(config, "report")
  config.vision.mixture_tokens = 64


def hlip(config):
  """The report as one text: its items, in random order in training."""
  config.objective = "hlip"
  _one_text(config, "report")
  config.joint.pooling = "similarity"
  config.text.join = " "
  if config.data.dataset == "ct_rate":
    # Recipe of the public README for 4 x 16 volumes; its text tower reads 512
    # word pieces.
    config.text.max_tokens = 512
    config.optimizer.learning_rate = 1e-5
    config.optimizer.weight_decay = 0.2
    config.train.update(global_batch=64, epochs=20.0, warmup_steps=377)
  if config.data.dataset == "brain_mri":
    config.text.prefix = "This MRI study shows: "
  # The flag for normal studies is off in the public script; its target rows
  # sum to more than 1.
  config.baselines.normal_pairs = "negative"


def hlip_sentence(config):
  """Sentence dropout: one random item a step, on itemised reports."""
  hlip(config)
  config.text.form = "sentence"
  _itemised(config)


def hlip_dual(config):
  """One class token for the report, one for a random item of it."""
  hlip_sentence(config)
  config.text.update(form="report_and_sentence", max_items=2)
  config.vision.class_tokens = 2


def hlip_raw(config):
  """Raw annotation of CT-RATE: impression and findings as dictated.

  The data set is built with `--reports=` HLIP's file of that name.
  """
  hlip(config)
  config.eval.evaluators = ("ct_rate_hlip_volume",)  # prompts of "the volume"


def hlip_organ(config):
  """Organ-wise annotation: one sentence an organ, in random order.

  The data set is built with `--reports=` HLIP's file of that name.
  """
  hlip(config)
  config.eval.evaluators = ("ct_rate_hlip",)         # prompts name the organ


def _itemised(config):
  """What the authors' newest README passes for itemised text of CT-RATE."""
  if config.data.dataset == "ct_rate":
    config.optimizer.learning_rate = 1e-4
    config.train.update(global_batch=512, epochs=30.0, warmup_steps=100)


def _one_text(config, form: str):
  """One text an image; with it diverse sampling has nothing to join."""
  config.text.update(form=form, max_items=1, diverse_max_merge=0)


_SYSTEMS = {f.__name__: f for f in (
    clip, siglip, multi_positive, dreamlip, flair, llip, hlip, hlip_sentence,
    hlip_dual, hlip_raw, hlip_organ)}

"""Settings of the related systems: what each adds to towers and optimiser.

Where a paper and its public code differ, a setting names both; the default and
why it is one stand beside it.
"""

import dataclasses
from typing import Literal

from itemclip_jax.config.build import positive, rate
from itemclip_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baselines:
  """CLIP, SigLIP, multi-positive SigLIP, DreamLIP, FLAIR, Llip and HLIP."""
  # Texts of an image's list, as FLAIR divides; or images, as ItemizedCLIP.
  flair_divisor: Literal["list", "images"] = "list"
  flair_mps_weight: float = 0.5    # of the multi-positive term; the rest is TCS
  grouping_weight: float = 1.0     # DreamLIP's sub-caption grouping
  grouping_sigma: float = 0.0      # weights below are 0; negative: 1 / tokens
  # Whose captions compete: the image's own (paper), those of the batch (code).
  # Findings repeat from study to study, which makes the batch's own captions
  # false negatives; and the code, as released, pairs captions with tokens of
  # other images, so that its results do not speak for its reading.
  grouping_over: Literal["image", "batch"] = "image"
  grouping_scale: float = 0.0      # its logit scale; 0: the model's
  # HLIP: what a batch is contrasted by, and what two normal studies are to one
  # another. "flagged": a pair under softmax, no negative under sigmoid.
  contrast: Literal["softmax", "sigmoid"] = "softmax"
  normal_pairs: Literal["negative", "flagged"] = "negative"

  def __post_init__(self):
    rate("baselines", flair_mps_weight=self.flair_mps_weight)
    for name in ("grouping_weight", "grouping_scale"):
      if getattr(self, name) < 0:
        raise UserError(f"baselines.{name} must be >= 0, got "
                        f"{getattr(self, name)}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fvlm:
  """Organ-wise contrast (Shui et al. 2025)."""
  normal_pairs: Literal["same", "different"] = "same"     # FNCN on, off
  equal_texts: Literal["same", "different"] = "same"      # code, paper
  # Which organs count: those with an abnormal sample (code), all (paper).
  organs: Literal["abnormal", "all"] = "abnormal"
  co_teaching: Literal["off", "on"] = "off"  # on: paper; the code has none
  burn_in_steps: int = 0           # of hard targets; paper: 5 epochs
  alpha: float = 0.5               # share of the hard targets afterwards
  temperature: tuple[float, float] = (0.001, 0.5)  # kept to; 1 / scale

  def __post_init__(self):
    rate("fvlm", alpha=self.alpha)
    if not 0 < self.temperature[0] < self.temperature[1]:
      raise UserError("fvlm.temperature must be increasing and > 0, got "
                      f"{self.temperature}.")
    if self.burn_in_steps < 0:
      raise UserError("fvlm.burn_in_steps must be >= 0, got "
                      f"{self.burn_in_steps}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Medfilip:
  """Labels with explanations and soft targets (Liang et al. 2025)."""
  # The paper's formula, its swapped arguments put right and its squared error
  # on cosines; or as the code, which pulls scaled logits towards 0 to 1 and so
  # keeps cosines small.
  loss: Literal["paper_fixed", "code"] = "paper_fixed"
  targets: Literal["soft", "hard"] = "soft"     # SSM on, off
  # Across categories the target is 0 (code), or what the encoder says (paper).
  # To a general encoder all chest texts are alike, so that the paper's reading
  # makes every label of the batch a fair match of every image.
  same_category_only: Literal["yes", "no"] = "yes"
  similarity_encoder: str = ""     # folder of a sentence encoder; "" = none
  label: Literal["category", "triplet"] = "triplet"
  # Template of label and explanation. The code's is shorter, which matters
  # where texts end at 77 tokens, and it is what zero-shot prompts say.
  knowledge: Literal["none", "code", "paper"] = "code"
  # Of severity and location that are not told: nothing, or "mask" (LLaMA's
  # extractor). Prompts tell neither and have no such word.
  missing: Literal["omit", "mask"] = "omit"
  # Labels of severity "no": both keep them, although to the encoder they are
  # much like the label that they deny.
  denied: Literal["kept", "left_out"] = "kept"
  mask_severity: float = 0.5       # chance of the word "mask" in training
  mask_location: float = 0.5       # (the code has a function for it that is
  mask_category: float = 0.0       # never called: 0, 0, 0)

  def __post_init__(self):
    rate("medfilip", mask_severity=self.mask_severity,
         mask_location=self.mask_location, mask_category=self.mask_category)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eclip:
  """Expert heatmaps (Kumar and Marttinen 2024), and what it is compared to.

  Defaults are the paper's; where it is silent, its algorithm's.
  """
  # Studies of their own, of which many are annotated (code): or those of the
  # batch, so that each stands in it twice and few do (algorithm).
  expert_rows: Literal["drawn", "own"] = "drawn"
  heatmaps: Literal["expert", "random"] = "expert"  # random: the control
  heatmap_scale: Literal["sample", "batch"] = "sample"  # whose maximum is 1
  # ^ batch: code; there a map's scale hangs on the others in the batch.
  mixing: Literal["beta", "none"] = "beta"      # none: lambda = 0 (naive)
  alpha: float = 0.3               # of the Beta; paper 0.3, code 0.2
  lambda_per: Literal["sample", "batch"] = "sample"  # algorithm, code
  draw_per: Literal["sample", "step"] = "sample"  # of the chance; as above
  curriculum: Literal["on", "off"] = "on"       # off: experts at every step
  cold: float = 0.1                # share of steps without experts, and primed
  warm: float = 0.3                # then rising
  cool: float = 0.4                # then falling
  p_start: float = 0.05
  p_max: float = 0.5
  p_end: float = 0.1               # paper 0.1, code 0.05
  prime_weight: float = 0.1        # paper 0.1, code 0.3
  # Whether texts that stand in the batch twice compete; both let them.
  duplicate_text: Literal["negative", "masked"] = "negative"
  processor_rate: float = 2.0      # of learning the processor, times the rest's
  # DACL: lambda ~ Beta(a, a) as eCLIP's code, or U(a, 1) as DACL's authors.
  dacl_lambda: Literal["beta", "uniform"] = "beta"
  dacl_alpha: float = 0.6
  # m3-mix: nothing is printed; as much as CLIP's own loss, Beta of its authors.
  m2_weight: float = 1.0           # geodesic mixtures as negatives
  m2_alpha: float = 0.5
  uni_weight: float = 0.0          # V- and L-mix: 0.05 its authors, 0 the code
  uni_alpha: float = 0.5

  def __post_init__(self):
    positive("eclip", alpha=self.alpha, dacl_alpha=self.dacl_alpha,
             m2_alpha=self.m2_alpha, uni_alpha=self.uni_alpha,
             processor_rate=self.processor_rate)
    rate("eclip", cold=self.cold, warm=self.warm, cool=self.cool,
         p_start=self.p_start, p_max=self.p_max, p_end=self.p_end,
         prime_weight=self.prime_weight)
    if self.cold + self.warm + self.cool > 1:
      raise UserError(
          f"eclip.cold={self.cold}, warm={self.warm} and cool={self.cool} are "
          "shares of all steps and exceed 1 together; lower one.")
    if self.dacl_lambda == "uniform" and self.dacl_alpha > 1:
      raise UserError(f"eclip.dacl_alpha={self.dacl_alpha} is the least share "
                      "of an image in its mixture; it may be 1 at most.")

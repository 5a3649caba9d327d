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
  # Whose captions compete: those of the batch (code), the image's own (paper).
  grouping_over: Literal["batch", "image"] = "batch"
  # HLIP: studies that are both normal count as each other's pair.
  normal_pairs: Literal["negative", "positive"] = "negative"

  def __post_init__(self):
    rate("baselines", flair_mps_weight=self.flair_mps_weight)


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
  loss: Literal["paper_fixed", "code"] = "paper_fixed"
  targets: Literal["soft", "hard"] = "soft"     # SSM on, off
  same_category_only: Literal["yes", "no"] = "yes"
  similarity_encoder: str = ""     # folder of a sentence encoder; "" = none
  label: Literal["category", "triplet"] = "triplet"
  knowledge: Literal["none", "code", "paper"] = "code"  # template of IKI
  mask_severity: float = 0.5       # chance of the word "mask" in training
  mask_location: float = 0.5
  mask_category: float = 0.0

  def __post_init__(self):
    rate("medfilip", mask_severity=self.mask_severity,
         mask_location=self.mask_location, mask_category=self.mask_category)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eclip:
  """Expert heatmaps (Kumar and Marttinen 2024), and what it is compared to."""
  alpha: float = 0.3               # of the Beta; paper 0.3, code 0.2
  mixing: Literal["beta", "none"] = "beta"      # none: lambda = 0 (naive)
  lambda_per: Literal["sample", "batch"] = "sample"
  draw_per: Literal["step", "sample"] = "step"  # of the curriculum's chance
  curriculum: Literal["on", "off"] = "on"       # off: experts at every step
  cold: float = 0.1                # share of steps without experts
  warm: float = 0.3                # then rising
  cool: float = 0.4                # then falling
  p_start: float = 0.05
  p_max: float = 0.5
  p_end: float = 0.1               # paper 0.1, code 0.05
  prime_weight: float = 0.1        # paper 0.1, code 0.3
  duplicate_text: Literal["negative", "masked"] = "negative"
  heatmap_scale: Literal["sample", "batch"] = "sample"  # whose maximum is 1
  dacl_alpha: float = 0.6
  m2_weight: float = 1.0           # geodesic mixup negatives of m3-mix
  m2_alpha: float = 1.0

  def __post_init__(self):
    positive("eclip", alpha=self.alpha, dacl_alpha=self.dacl_alpha,
             m2_alpha=self.m2_alpha)
    if self.cold + self.warm + self.cool > 1:
      raise UserError(
          f"eclip.cold={self.cold}, warm={self.warm} and cool={self.cool} are "
          "shares of all steps and exceed 1 together; lower one.")

"""eCLIP: where experts looked makes further positive pairs.

A batch has ordinary rows (v_i, t_i) and expert rows, whose image is mixed with
what the processor of heatmaps makes of it (`models.heatmap`):

    L = (1 - w) InfoNCE(ordinary rows and those expert rows that count)
        + w mean (I - processor(I, 1))^2                     on ordinary rows
    lambda ~ Beta(a, a) of an expert row

An expert row counts with a probability that follows the training's progress:
0 in the cold phase, whose steps alone have w > 0 ("priming"), then p_start to
p_max, then p_max to p_end, and there it stays. What does not count is encoded
all the same, so that shapes stay fixed.

One pass does it all: ordinary rows have heatmaps of ones, so that what the
processor makes of them is the reconstruction. "naive" is mixing="none",
curriculum="off", prime_weight=0; eCLIP^P is this objective, continued from a
trained CLIP.

Reference: Kumar and Marttinen 2024, https://arxiv.org/abs/2403.10153.
"""

import dataclasses

import jax
import jax.numpy as jnp

from itemclip_jax.config import schema, systems
from itemclip_jax.errors import UserError
from itemclip_jax.losses.softmax import symmetric_nll
from itemclip_jax.models import heatmap
from itemclip_jax.models.layers import exact_zero_where
from itemclip_jax.objectives import clip
from itemclip_jax.ops.attention import wide
from itemclip_jax.ops.item_pairs import unit


@dataclasses.dataclass(frozen=True)
class Objective(clip.Objective):
  """CLIP with expert rows; without `expert` in the batch it is CLIP."""
  settings: systems.Eclip
  total_steps: int

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe.

    Raises:
      UserError: the settings lack what it works on.
    """
    del dtype
    clip.require_one_text(config)
    for name, value in (("train.steps", config.train.steps),
                        ("data.expert_batch", config.data.expert_batch),
                        ("vision.heatmap_width", config.vision.heatmap_width)):
      if not value:
        raise UserError(f"{name} is 0, but objective='eclip' needs it; set it "
                        "or take objective='clip'.")
    return cls(config.eclip, config.train.steps)

  def views(self, batch, *, step, rng):
    """The batch, once, with float heatmaps and the share `mix` of the image."""
    (batch,) = super().views(batch, step=step, rng=rng)
    if "expert" not in batch:
      return (batch,)
    s, expert, looked = self.settings, batch["expert"], batch["heatmap"]
    share, control, _ = _keys(rng, step)
    if s.heatmaps == "random":
      looked = jax.random.uniform(control, looked.shape)
    shape = expert.shape if s.lambda_per == "sample" else ()
    lam = 0.0
    if s.mixing == "beta":
      lam = jax.random.beta(share, s.alpha, s.alpha, shape)
    return (batch | {
        "heatmap": heatmap.scaled(looked, expert, over=s.heatmap_scale),
        "mix": jnp.where(expert, lam, 1.0)},)

  def loss(self, outputs, params, batch, *, step, rng):
    """Returns the float32 scalar and its parts; draws from `rng` and `step`."""
    (out,) = outputs
    s, real = self.settings, clip.real_items(batch)
    out = clip.without_padding(out, real)
    expert = batch.get("expert", jnp.zeros(len(real), bool))
    chance = probability(step, self.total_steps, s)
    shape = expert.shape if s.draw_per == "sample" else ()
    drawn = jax.random.uniform(_keys(rng, step)[2], shape) < chance
    counts = real[:, 0] & (~expert | drawn)
    ids = batch["item_tokens"][:, 0] if s.duplicate_text == "masked" else None
    terms = {"clip": contrast(out.image, out.items[:, 0], counts,
                              out.logit_scale, ids)}
    total = terms["clip"]
    if s.prime_weight and out.reconstruction is not None:
      terms["prime"] = squared_error(batch["volume"], out.reconstruction,
                                     real[:, 0] & ~expert)
      cold = step < s.cold * self.total_steps
      weight = jnp.where(cold, s.prime_weight, 0.0)
      total = (1 - weight) * terms["clip"] + weight * terms["prime"]
    metrics = {f"loss/{name}": value for name, value in terms.items()}
    return total, metrics | {
        "loss/total": total, "logit_scale": out.logit_scale,
        "logit_bias": out.logit_bias, "expert/chance": chance,
        "expert/rows": jnp.sum(counts & expert)}


def probability(
    step: jax.Array,      # [] int, from 0
    total_steps: int,
    s: systems.Eclip,
) -> jax.Array:           # []
  """Chance of an expert row to count; see the head of this module."""
  if s.curriculum == "off":
    return jnp.ones(())
  ends = [s.cold, s.cold + s.warm, s.cold + s.warm + s.cool]
  progress = jnp.asarray(step) / total_steps
  chance = jnp.interp(progress, jnp.array(ends),
                      jnp.array([s.p_start, s.p_max, s.p_end]))
  return jnp.where(step < s.cold * total_steps, 0.0, chance)


def contrast(
    image: jax.Array,            # [M, E] not normalised, 0 where not real
    text: jax.Array,             # [M, E]
    mask: jax.Array,             # [M] bool, False = counts in nothing
    logit_scale: jax.Array,      # []
    ids: jax.Array | None = None,  # [M, T]: equal texts do not compete
) -> jax.Array:                  # []
  """CLIP's loss of M pairs; 0 without any."""
  logits = logit_scale * jnp.einsum("be,ce->bc", unit(image), unit(text))
  if ids is not None:
    equal = jnp.all(ids[:, None] == ids[None], axis=-1)
    logits = jnp.where(equal & ~jnp.eye(len(ids), dtype=bool),
                       jnp.finfo(logits.dtype).min, logits)
  return symmetric_nll(logits, mask).sum() / clip.num_real(mask)


def squared_error(
    volume: jax.Array,   # [B, S, D, H, W]
    made: jax.Array,     # [B, S, D, H, W]
    mask: jax.Array,     # [B] bool, False = does not count
) -> jax.Array:          # []
  """Mean over voxels of the rows that count; 0 without any."""
  error = exact_zero_where(mask[:, None, None, None, None],
                           wide(volume) - wide(made))
  return jnp.mean(error ** 2, axis=(1, 2, 3, 4)).sum() / clip.num_real(mask)


def _keys(rng, step):
  """For the shares, the heatmaps of the control, and who counts."""
  return jax.random.split(jax.random.fold_in(rng, step), 3)

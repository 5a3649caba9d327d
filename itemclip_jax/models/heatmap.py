"""The processor of expert heatmaps: an image as an expert looked at it.

    P = patches to vectors          shared by both inputs
    Q = P(E * I),  K = V = P(I)     E where an expert looked, I the image
    I^E = vectors to patches (linear(attention(Q, K, V)))

without positions, residual or norm. "mask" is E * I itself; "cnn" has two
convolutions over the grid of P(E * I) in the place of attention (the paper
names that ablation and does not describe it: this one is ours). What enters the
image tower is

    I^lambda = lambda I + (1 - lambda) I^E

Reference: Kumar and Marttinen 2024, https://arxiv.org/abs/2403.10153. Initial
values are those of torch's layers.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from itemclip_jax.models import layers
from itemclip_jax.models.gelu import gelu
from itemclip_jax.models.hlip import patches
from itemclip_jax.ops.attention import attend

# torch counts the outputs of a transposed convolution as its inputs.
_UNPATCH = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


def scaled(
    heatmap: jax.Array,  # [B, H, W] >= 0
    expert: jax.Array,   # [B] bool, False = nobody looked
    *,
    over: Literal["sample", "batch"],
) -> jax.Array:          # [B, H, W] float32 in 0 .. 1
  """Divides by the maximum of each map, or of all.

  Where nobody looked, or looked at nothing of this crop, it is 1 everywhere:
  a map of zeros would tell that there is nothing to see, and all ones is what
  the published loader takes for a map that is missing.
  """
  heatmap = heatmap.astype(jnp.float32)
  most = heatmap.max((1, 2))
  seen = expert & (most > 0)
  if over == "batch":
    most = jnp.max(most, where=seen, initial=0.0)
  scale = jnp.where(seen, most, 1.0)[:, None, None]
  return jnp.where(seen[:, None, None], heatmap / scale, 1.0)


def mix(
    volume: jax.Array,   # [B, S, D, H, W]
    made: jax.Array,     # [B, S, D, H, W]
    share: jax.Array,    # [B] lambda
) -> jax.Array:          # [B, S, D, H, W]
  """I^lambda of the header; the volume to the last bit where lambda is 1."""
  share = share[:, None, None, None, None].astype(volume.dtype)
  return jnp.where(share == 1, volume, share * volume + (1 - share) * made)


class HeatmapProcessor(nn.Module):
  """I^E of the header.

  Attributes:
    patch: (3, ph, pw): channels and pixels of a token.
    width: of the tokens.
    num_heads: A; must divide the width.
    kind: how heatmap and image meet.
    dtype: type of the matmuls, None for the input's.
  """
  patch: tuple[int, int, int] = (3, 16, 16)
  width: int = 256
  num_heads: int = 8
  kind: Literal["attention", "mask", "cnn"] = "attention"
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(
      self,
      volume: jax.Array,    # [B, 1, 3, H, W] standardised
      heatmap: jax.Array,   # [B, H, W] in 0 .. 1
  ) -> jax.Array:           # [B, 1, 3, H, W]
    overlaid = volume * heatmap[:, None, None].astype(volume.dtype)
    if self.kind == "mask":
      return overlaid
    inputs = self.patch[0] * self.patch[1] * self.patch[2]
    # Reshape and matmul, for the reason given in HLIP.
    embed = nn.Dense(self.width, dtype=self.dtype, name="patch",
                     kernel_init=layers.torch_linear,
                     bias_init=layers.torch_bias(inputs))
    query = embed(patches(overlaid, self.patch)[:, 0, 0])   # [B, h, w, C]
    if self.kind == "cnn":
      x = self._convolved(query)
    else:
      x = self._attended(query, embed(patches(volume, self.patch)[:, 0, 0]))
    x = nn.Dense(inputs, use_bias=False, dtype=self.dtype, name="unpatch",
                 kernel_init=_UNPATCH)(x)
    # One number a colour, as a transposed convolution has it.
    bias = self.param("bias", layers.torch_bias(inputs), (self.patch[0],))
    made = joined(x, self.patch)
    return made + bias[:, None, None].astype(made.dtype)

  def _attended(self, query, image):
    """Multi-head attention, then a linear layer: [B, h, w, C], twice."""
    B, h, w, C = query.shape
    heads = (self.num_heads, C // self.num_heads)
    # Xavier over the packed [3 C, C] matrix: variance 2 / (3 C + C).
    packed = nn.initializers.variance_scaling(0.5, "fan_in", "uniform")
    project = lambda name, x: nn.DenseGeneral(
        heads, dtype=self.dtype, kernel_init=packed, name=name)(
            x.reshape(B, h * w, C))
    x = attend(project("query", query), project("key", image),
               project("value", image))
    x = nn.DenseGeneral(C, (-2, -1), dtype=self.dtype, name="out",
                        kernel_init=layers.torch_linear)(x)
    return nn.Dense(C, dtype=self.dtype, name="linear",
                    kernel_init=layers.torch_linear,
                    bias_init=layers.torch_bias(C))(x).reshape(B, h, w, C)

  def _convolved(self, x):
    """[B, h, w, C], two 3 x 3 convolutions with a GELU between."""
    for i in range(2):
      x = gelu(x) if i else x
      x = nn.Conv(self.width, (3, 3), dtype=self.dtype, name=f"conv{i}",
                  kernel_init=layers.torch_linear)(x)
    return x


def joined(
    x: jax.Array,                     # [B, h, w, 3 * ph * pw]
    patch: tuple[int, int, int],      # 3, ph, pw
) -> jax.Array:                       # [B, 1, 3, h * ph, w * pw]
  """Puts patches together again; undoes `hlip.patches` for pictures."""
  B, h, w, _ = x.shape
  D, p, q = patch
  x = x.reshape(B, h, w, D, p, q).transpose(0, 3, 1, 4, 2, 5)
  return x.reshape(B, 1, D, h * p, w * q)

"""A 2-D masked autoencoder (MAE) as the initial weights of a 3-D tower.

`Hlip`:

    cls_token        = cls + position[0]
    patch kernel     = sum over RGB of bicubic(kernel) / pd, at all pd depths
    spatial_position = antialiased bicubic(position[1:]) + sincos(slab)

So a volume that is constant along depth embeds as its grey RGB image does
("average inflation"). Blocks and the final norm are copied. The two bicubics
differ, as in the published conversion: see `cubic_weights`.

`Vit3d`: blocks and norm are copied, the positions resized to (h, w) bilinearly
and repeated over depth; CLS and patch embedding are not taken.

Reference: Zhao et al. 2025, https://arxiv.org/abs/2505.21862 (HLIP); Shui et
al. 2025, https://arxiv.org/abs/2501.14548 (fVLM), its public code; He et al.
2021, https://arxiv.org/abs/2111.06377 (MAE), with timm's names of parameters.
"""

import math
import pathlib

import jax
import numpy as np

from itemclip_jax.errors import UserError
from itemclip_jax.interop import mapping, torch_io
from itemclip_jax.interop.rules import hlip
from itemclip_jax.models import layers
from itemclip_jax.models.hlip import Hlip
from itemclip_jax.models.vit3d import Vit3d

# The decoder of pretraining, and a head that somebody trained on top.
_NOT_ENCODER = (r"decoder_.*", r"mask_token", r"head\..*")


def hlip_from_mae(state: mapping.State, model: Hlip) -> dict:
  """The encoder of a 2-D MAE -> the parameters of `model` that it determines.

  Args:
    state: torch names -> arrays, as `mae_shapes` lists them; any square grid of
      positions and any patch size.
    model: the tower to fill; its patch, grid and sizes are read.

  Returns:
    A float32 tree as `model.init` makes it, without the parameters of the
    series names, which an MAE has not: lay it over the initial ones.

  Raises:
    UserError: a name is missing or unexpected, a shape does not fit `model`,
      or the positions form no square.
  """
  state = _checked(state, model)
  kernel = patch_kernel(state["patch_embed.proj.weight"], model.patch)
  position = state["pos_embed"][0]
  return _blocks(state, model) | {
      "cls_token": state["cls_token"] + position[0],
      "patch": {"kernel": kernel, "bias": state["patch_embed.proj.bias"]},
      "spatial_position": spatial_table(position[1:], model.grid)}


def vit3d_from_mae(state: mapping.State, model: Vit3d) -> dict:
  """The encoder of a 2-D MAE -> the parameters of `model` that it determines.

  Args and errors as those of `hlip_from_mae`.

  Returns:
    A float32 tree as `model.init` makes it, without the patch embedding: lay it
    over the initial ones.
  """
  state = _checked(state, model)
  d, h, w = model.grid
  plane = _square(state["pos_embed"][0, 1:])[None]
  plane = np.asarray(layers.resample_grid(plane, (1, h, w)))
  table = np.repeat(plane, d, axis=0).reshape(d * h * w, -1)
  return _blocks(state, model) | {"position": {"embedding": table}}


def read_mae(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The encoder's part of an MAE file; see `torch_io.read_state`."""
  return mapping.drop(torch_io.read_state(path), _NOT_ENCODER)


def mae_shapes(model: Hlip | Vit3d) -> dict[str, mapping.Shape]:
  """Torch names and shapes of the MAE encoder that fits `model`."""
  C = model.width
  return {"cls_token": (1, 1, C), "pos_embed": (1, None, C),
          "patch_embed.proj.weight": (C, 3, None, None),
          "patch_embed.proj.bias": (C,)} | {
              e.torch: e.torch_shape for e in _block_entries(model)}


def _checked(state: mapping.State, model) -> dict[str, np.ndarray]:
  """The whole state, of the sizes of `model`, in float32."""
  mapping.check(state, mae_shapes(model), "The MAE state")
  return {k: np.asarray(v, np.float32) for k, v in state.items()}


def _blocks(state: mapping.State, model) -> dict:
  """The parameters of the blocks and the norm, which are copied."""
  entries = _block_entries(model)
  return mapping.to_params(
      {e.torch: state[e.torch] for e in entries}, entries, "The MAE state")


def _block_entries(model: Hlip | Vit3d) -> list[mapping.Entry]:
  """Their names and shapes."""
  C = model.width
  block = layers.Block(model.num_heads, int(C * model.mlp_ratio))
  shapes = {"norm/scale": (C,), "norm/bias": (C,)}
  for path, shape in mapping.init_shapes(block, np.zeros((1, 1, C))).items():
    shapes |= {f"block{i}/{path}": shape for i in range(model.depth)}
  return mapping.expand(hlip.TIMM, shapes, "An MAE")


def patch_kernel(
    kernel: np.ndarray,            # [C, 3, q, r] of a 2-D convolution
    patch: tuple[int, int, int],   # (pd, ph, pw)
) -> np.ndarray:                   # [pd * ph * pw, C] float32
  """Average inflation of an RGB patch kernel to grey volumes."""
  pd, ph, pw = patch
  rows, columns = (cubic_weights(old, new)
                   for old, new in zip(kernel.shape[2:], (ph, pw)))
  grey = np.einsum("hq,wr,ciqr->hwc", rows, columns, kernel)
  inflated = np.broadcast_to(grey / pd, (pd, *grey.shape))
  return inflated.reshape(-1, len(kernel)).astype(np.float32)


def spatial_table(
    position: np.ndarray,         # [g * g, C] without the entry of CLS
    grid: tuple[int, int, int],   # (d, h, w)
) -> np.ndarray:                  # [d, h, w, C] float32
  """A 2-D position table at a new size, told apart along depth by a code.

  Raises:
    UserError: the positions form no square.
  """
  d, h, w = grid
  C = position.shape[1]
  plane = jax.image.resize(_square(position), (h, w, C), "cubic",
                           antialias=True)
  code = layers.sincos_1d(np.arange(d), C)
  return (np.asarray(plane) + code[:, None, None]).astype(np.float32)


def _square(position: np.ndarray) -> np.ndarray:
  """[g * g, C] -> [g, g, C]."""
  side = math.isqrt(len(position))
  if side ** 2 != len(position):
    raise UserError(f"The MAE has {len(position)} positions besides that of "
                    "CLS; give one that was trained on square images.")
  return position.reshape(side, side, -1)


def cubic_weights(old: int, new: int) -> np.ndarray:
  """[new, old] float64 matrix of torch's bicubic without antialiasing.

  Keys' kernel with a = -0.75 at half-pixel centres, the border repeated. With
  antialiasing torch takes a = -0.5 and leaves the border out, which is what
  `jax.image.resize` does; without, nothing in JAX is the same.

  Source: torch, `nn.functional.interpolate(mode="bicubic")`; Keys 1981, Cubic
  convolution interpolation, eq. 4 with a free.
  """
  a = -0.75
  centre = (np.arange(new)[:, None] + 0.5) * old / new - 0.5
  tap = np.floor(centre).astype(int) + np.arange(-1, 3)  # [new, 4]
  x = np.abs(centre - tap)
  near = ((a + 2) * x - (a + 3)) * x ** 2 + 1
  far = ((x - 5) * x + 8) * x * a - 4 * a
  matrix = np.zeros((new, old))
  np.add.at(matrix, (np.arange(new)[:, None], np.clip(tap, 0, old - 1)),
            np.where(x <= 1, near, far))
  return matrix

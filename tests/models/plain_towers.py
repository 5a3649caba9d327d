"""The towers for pictures in plain NumPy, one picture at a time.

They read the states of the public checkpoints, in torch's names and layouts,
and are written from the papers' figures: Swin's windows are found by dividing
coordinates, without rolling, padding or a mask.
"""

import math

import numpy as np

EPSILON = {"resnet": 1e-5, "swin": 1e-5, "vit": 1e-6}


def resnet_shapes(stages, width, classes=7) -> dict:
  """Names and shapes of torchvision's ResNet of bottlenecks."""
  shapes, inside = {}, width

  def conv(name, out, into, size):
    shapes[f"{name}.weight"] = (out, into, size, size)

  def norm(name, channels):
    for leaf in ("weight", "bias", "running_mean", "running_var"):
      shapes[f"{name}.{leaf}"] = (channels,)
    shapes[f"{name}.num_batches_tracked"] = ()

  conv("conv1", width, 3, 7), norm("bn1", width)
  for i, blocks in enumerate(stages):
    narrow = width * 2 ** i
    for j in range(blocks):
      at = f"layer{i + 1}.{j}"
      conv(f"{at}.conv1", narrow, inside, 1), norm(f"{at}.bn1", narrow)
      conv(f"{at}.conv2", narrow, narrow, 3), norm(f"{at}.bn2", narrow)
      conv(f"{at}.conv3", 4 * narrow, narrow, 1), norm(f"{at}.bn3", 4 * narrow)
      if j == 0:
        conv(f"{at}.downsample.0", 4 * narrow, inside, 1)
        norm(f"{at}.downsample.1", 4 * narrow)
      inside = 4 * narrow
  return shapes | {"fc.weight": (classes, inside), "fc.bias": (classes,)}


def swin_shapes(stages, width, num_heads, patch, window, classes=7) -> dict:
  """Names and shapes of the published Swin, without its tables of numbers."""
  shapes = {"patch_embed.proj.weight": (width, 3, patch, patch),
            "patch_embed.proj.bias": (width,)} | _norm("patch_embed.norm",
                                                       width)
  for i, blocks in enumerate(stages):
    C = width * 2 ** i
    for j in range(blocks):
      at = f"layers.{i}.blocks.{j}"
      shapes |= _block_shapes(at, C)
      shapes[f"{at}.attn.relative_position_bias_table"] = (
          (2 * window - 1) ** 2, num_heads * 2 ** i)
    if i + 1 < len(stages):
      shapes |= _norm(f"layers.{i}.downsample.norm", 4 * C)
      shapes[f"layers.{i}.downsample.reduction.weight"] = (2 * C, 4 * C)
  return shapes | _norm("norm", C) | {
      "head.weight": (classes, C), "head.bias": (classes,)}


def vit_shapes(width, depth, patch, side, classes=7) -> dict:
  """Names and shapes of timm's ViT for pictures of `side` x `side` pixels."""
  shapes = {"cls_token": (1, 1, width),
            "pos_embed": (1, 1 + (side // patch) ** 2, width),
            "patch_embed.proj.weight": (width, 3, patch, patch),
            "patch_embed.proj.bias": (width,)}
  for i in range(depth):
    shapes |= _block_shapes(f"blocks.{i}", width)
  return shapes | _norm("norm", width) | {
      "head.weight": (classes, width), "head.bias": (classes,)}


def _norm(name, channels):
  return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def _block_shapes(at, C):
  shapes = _norm(f"{at}.norm1", C) | _norm(f"{at}.norm2", C)
  for name, out, into in (("attn.qkv", 3 * C, C), ("attn.proj", C, C),
                          ("mlp.fc1", 4 * C, C), ("mlp.fc2", C, 4 * C)):
    shapes |= {f"{at}.{name}.weight": (out, into), f"{at}.{name}.bias": (out,)}
  return shapes


def random_state(shapes: dict, seed: int = 0) -> dict:
  """Values that keep the size of what passes, away from the trivial ones."""
  rng = np.random.default_rng(seed)
  state = {}
  for name, shape in shapes.items():
    value = rng.normal(size=shape) / math.sqrt(max(1, math.prod(shape[1:])))
    if name.endswith("running_var"):
      value = rng.uniform(0.5, 2.0, shape)
    elif len(shape) == 1:
      value = 0.3 * value + name.endswith("weight")
    state[name] = np.asarray(value, np.float32)
  return state


def parameters(shapes: dict) -> int:
  """How many numbers torch would train."""
  return sum(math.prod(s) for k, s in shapes.items()
             if not k.endswith(("_mean", "_var", "_tracked")))


def convolve(x, weight, stride):
  """[I, H, W] and [O, I, k, k] -> [O, h, w], half a kernel padded around."""
  k = weight.shape[-1]
  x = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
  cut = np.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))
  return np.einsum("ihwkl,oikl->ohw", cut[:, ::stride, ::stride], weight)


def resnet(state, picture, stages, *, groups=None):
  """[3, H, W] -> [C, h, w]; `groups`: channels -> groups of a GroupNorm."""
  def normalise(x, name):
    if groups:
      parts = x.reshape(groups(len(x)), -1)
      mean, var = parts.mean(1, keepdims=True), parts.var(1, keepdims=True)
      x = ((parts - mean) / np.sqrt(var + EPSILON["resnet"])).reshape(x.shape)
    else:
      mean, var = (state[f"{name}.running_{k}"][:, None, None]
                   for k in ("mean", "var"))
      x = (x - mean) / np.sqrt(var + EPSILON["resnet"])
    return (x * state[f"{name}.weight"][:, None, None]
            + state[f"{name}.bias"][:, None, None])

  step = lambda x, conv, norm, stride=1: normalise(
      convolve(x, state[f"{conv}.weight"], stride), norm)
  x = np.maximum(step(picture, "conv1", "bn1", 2), 0)
  x = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
  x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[
      :, ::2, ::2].max((-1, -2))
  for i, blocks in enumerate(stages):
    for j in range(blocks):
      at, stride = f"layer{i + 1}.{j}", 2 if i and not j else 1
      y = np.maximum(step(x, f"{at}.conv1", f"{at}.bn1"), 0)
      y = np.maximum(step(y, f"{at}.conv2", f"{at}.bn2", stride), 0)
      y = step(y, f"{at}.conv3", f"{at}.bn3")
      if j == 0:
        x = step(x, f"{at}.downsample.0", f"{at}.downsample.1", stride)
      x = np.maximum(x + y, 0)
  return x


def _layer_norm(state, x, name, epsilon):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
      x.var(-1, keepdims=True) + epsilon)
  return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def _linear(state, x, name):
  return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _block(state, x, at, num_heads, epsilon, bias):
  """[N, C]; `bias` [A, N, N] is added to the logits, -inf = unseen."""
  y = _linear(state, _layer_norm(state, x, f"{at}.norm1", epsilon),
              f"{at}.attn.qkv")
  q, k, v = y.reshape(len(x), 3, num_heads, -1).transpose(1, 2, 0, 3)
  weights = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]) + bias)
  pooled = weights / weights.sum(-1, keepdims=True) @ v
  x = x + _linear(state, pooled.transpose(1, 0, 2).reshape(x.shape),
                  f"{at}.attn.proj")
  y = _linear(state, _layer_norm(state, x, f"{at}.norm2", epsilon),
              f"{at}.mlp.fc1")
  y = y * (1 + np.vectorize(math.erf)(y / math.sqrt(2))) / 2
  return x + _linear(state, y, f"{at}.mlp.fc2")


def _patches(state, picture):
  """[3, H, W] -> [h, w, C]."""
  weight = state["patch_embed.proj.weight"]
  p = weight.shape[-1]
  x = picture.reshape(3, picture.shape[1] // p, p, -1, p)
  return np.einsum("chiwj,ocij->hwo", x, weight) + state[
      "patch_embed.proj.bias"]


def window_bias(table, grid, window, shift):
  """[A, N, N] of tokens in rows: bias by offset, -inf in another window."""
  place = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1)
  place = place.reshape(-1, 2)
  moved = np.where(np.array(grid) > window, shift, 0)
  window_of = (place - moved) // window
  together = (window_of[:, None] == window_of[None]).all(-1)
  offset = np.clip(place[:, None] - place[None] + window - 1, 0,
                   2 * window - 2)
  bias = table[offset[..., 0] * (2 * window - 1) + offset[..., 1]]
  return np.where(together, bias.transpose(2, 0, 1), -np.inf)


def swin(state, picture, *, stages, num_heads, window):
  """[3, H, W] -> [h * w, C] normalised tokens of the last stage."""
  epsilon = EPSILON["swin"]
  x = _layer_norm(state, _patches(state, picture), "patch_embed.norm", epsilon)
  for i, blocks in enumerate(stages):
    if i:
      quarter = [x[a::2, b::2] for b in (0, 1) for a in (0, 1)]
      at = f"layers.{i - 1}.downsample"
      x = _layer_norm(state, np.concatenate(quarter, -1), f"{at}.norm", epsilon)
      x = x @ state[f"{at}.reduction.weight"].T
    grid, flat = x.shape[:2], x.reshape(-1, x.shape[-1])
    for j in range(blocks):
      at = f"layers.{i}.blocks.{j}"
      bias = window_bias(state[f"{at}.attn.relative_position_bias_table"],
                         grid, window, window // 2 if j % 2 else 0)
      flat = _block(state, flat, at, num_heads * 2 ** i, epsilon, bias)
    x = flat.reshape(*grid, -1)
  return _layer_norm(state, flat, "norm", epsilon)


def vit(state, picture, *, depth, num_heads):
  """[3, H, W] -> [1 + h * w, C] normalised, CLS first."""
  x = _patches(state, picture).reshape(-1, state["cls_token"].shape[-1])
  x = np.concatenate([state["cls_token"][0], x]) + state["pos_embed"][0]
  for i in range(depth):
    x = _block(state, x, f"blocks.{i}", num_heads, EPSILON["vit"], 0.0)
  return _layer_norm(state, x, "norm", EPSILON["vit"])

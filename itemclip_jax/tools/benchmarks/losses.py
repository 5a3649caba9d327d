"""The itemised losses against a plain program of the specification.

Both give the weighted sum of the four terms and its gradients by images,
tokens, items, item attention, scale and bias, in float32, for made-up features
and equal draws. The plain one is the oracle of the tests; it gets its masks of
dropped tokens from the same function, all at once. `equal` compares the two:
the largest difference over the largest value, of the loss and of each gradient.

Time and memory are of a process of its own each: the median of the calls after
the first, and what the first added to inputs and compiled program. `candidates`
are ours with so many times the candidates.
"""

import functools
import importlib.util
import pathlib
import statistics

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.losses import negatives
from itemclip_jax.models.dual_encoder import Outputs
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.objectives.itemized_clip import Objective
from itemclip_jax.tools.benchmarks import fresh

_ORACLE = (pathlib.Path(__file__).parents[3]
           / "tests" / "losses" / "plain_itemized.py")
_SETTINGS = schema.Loss(token_drop_rate=0.05, kta_rate=0.05)
_SIZES = {"B": (32, "Images."), "K": (7, "Items of an image."),
          "N": (1024, "Tokens of an image."), "E": (512, "Width."),
          "heads": (8, "Attention heads."),
          "repeats": (5, "Calls that are timed.")}


def define_flags():
  for name, (value, text) in _SIZES.items():
    flags.DEFINE_integer(name, value, text, lower_bound=1)


def measure() -> dict:
  """By the flags; see the header."""
  return measured(**{name: flags.FLAGS[name].value for name in _SIZES})


def measured(**sizes) -> dict:
  """What both cost here; `sizes` are those of the flags."""
  _oracle()
  run = lambda name, **more: fresh.run(f"{__name__}:{name}", sizes | more)
  equal = run("differences")
  plain = run("cost", which="plain")
  ours = [run("cost", which="ours", times=times) for times in (1, 2, 4)]
  return {
      "equal": equal, "ours": ours[0], "plain": plain,
      "speedup": round(plain["seconds"] / ours[0]["seconds"], 2),
      "memory_ratio": round(ours[0]["peak_bytes"] / plain["peak_bytes"], 3),
      "candidates": [{"times": t} | o for t, o in zip((1, 2, 4), ours)],
      "sizes": sizes, "machine": fresh.machine()}


def differences(**sizes) -> dict:
  """Relative differences of loss and gradients, both in one process."""
  inputs = make_inputs(**sizes)
  results = [jax.device_get(_compiled(which, inputs, **sizes)(*inputs))
             for which in ("ours", "plain")]
  (ours, our_gradients), (plain, plain_gradients) = results
  found = {"loss": abs(float(ours) / float(plain) - 1)}
  pairs = zip(jax.tree_util.tree_leaves_with_path(our_gradients),
              jax.tree.leaves(plain_gradients))
  for (path, ours), plain in pairs:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    found[name] = float(np.abs(ours - plain).max() / np.abs(plain).max())
  return {name: float(f"{value:.1e}") for name, value in found.items()}


def cost(which: str, repeats: int, **sizes) -> dict:
  """Seconds and bytes of one of the two."""
  inputs = make_inputs(**sizes)
  run = _compiled(which, inputs, **sizes)
  peak = fresh.Peak()
  jax.block_until_ready(run(*inputs))
  found = {"peak_bytes": peak.above()}
  seconds = fresh.seconds(lambda: jax.block_until_ready(run(*inputs)), repeats)
  return {"seconds": round(statistics.median(seconds), 4)} | found


def make_inputs(B, K, N, E, heads, times=1, **_) -> tuple:
  """Features, candidates [B, times (K + B - 1)], item mask, flags, key."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
  one = jnp.zeros((1, 1, E))
  attention = ItemAttention(E, heads).init(
      jax.random.key(0), one, one, jnp.ones((1, 1), bool))["params"]
  # Biases start at zero, which would hide what becomes of them.
  attention = jax.tree.map(lambda x: x + 0.02 * draw(*x.shape), attention)
  features = {
      "image": draw(B, E), "tokens": draw(B, N, E), "items": draw(B, K, E),
      "attention": attention, "bias": np.float32(-5),
      "log_scale": np.float32(_SETTINGS.init_logit_scale)}
  count = rng.integers(1, K + 1, B)
  image = np.arange(B)[:, None]
  other = (image + 1 + np.arange(times * (K + B - 1) - K) % max(B - 1, 1)) % B
  drawn = other * K + rng.integers(0, count[other])
  index = np.concatenate([image * K + np.arange(K), drawn], axis=1)
  return jax.device_put((
      features, index.astype(np.int32), np.arange(K) < count[:, None],
      rng.random(B) < 0.3, jax.random.key(1)))


def _compiled(which, inputs, E, heads, **_):
  loss = {"ours": _ours, "plain": _plain}[which]
  objective = Objective(_SETTINGS, ItemAttention(E, heads))
  return jax.jit(jax.value_and_grad(functools.partial(loss, objective))).lower(
      *inputs).compile()


def _keep(objective, features, key):
  return negatives.keep_function(
      key, objective.settings.token_drop_rate,
      num_heads=objective.attention.num_heads,
      num_tokens=features["tokens"].shape[1])


def _ours(objective, features, index, item_mask, normal, key):
  out = Outputs(
      image=features["image"], tokens=features["tokens"],
      items=features["items"],
      token_mask=jnp.ones(features["tokens"].shape[:2], bool),
      logit_scale=jnp.exp(features["log_scale"]), logit_bias=features["bias"])
  terms, _ = objective.terms(
      out, {"item_attention": features["attention"]}, item_mask, normal, index,
      _keep(objective, features, key))
  return objective.total(jax.tree.map(jnp.sum, terms))


def _plain(objective, features, index, item_mask, normal, key):
  settings = objective.settings
  keep = _keep(objective, features, key)(
      jnp.arange(len(index)), 0, index.shape[1])
  return objective.total(_oracle().terms(
      features, index, item_mask, normal, keep, kta_rate=settings.kta_rate,
      uwp_factor=settings.uwp_factor))


def _oracle():
  """The module of the tests that holds the plain program.

  Raises:
    UserError: there are no tests beside the package.
  """
  if not _ORACLE.exists():
    raise UserError(f"The program to compare with is a file of the tests, and "
                    f"there is no {_ORACLE}; run this in a checkout.")
  spec = importlib.util.spec_from_file_location(_ORACLE.stem, _ORACLE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module

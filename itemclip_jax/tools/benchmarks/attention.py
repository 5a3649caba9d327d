"""Back-ends of attention: seconds, memory and agreement of each on this device.

    flops = 12 G T^2 A F,  4 of the forward pass and 8 of the backward

for G groups of T tokens that attend within themselves, A heads of width F; the
last tokens of the last group are padding. What a back-end computes twice counts
once. Products are in float32 on a CPU, in bfloat16 elsewhere.

Each runs in a process of its own: the least of the calls after the first, and
what the first added to inputs and compiled program, of the process on a CPU and
of the device elsewhere. `difference` is the largest to the first back-end that
runs, over its largest value, of the result or of one of the three gradients.
Name two others where xla's square of tokens does not fit into memory.
"""


from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.errors import UserError
from itemclip_jax.ops import attention_backends as backends
from itemclip_jax.tools.benchmarks import fresh

_SIZES = {"groups": (1, "Groups that attend within themselves."),
          "tokens": (2745, "Tokens of a group."),
          "heads": (12, "Attention heads."),
          "head_width": (64, "Width of a head."),
          "repeats": (5, "Calls that are timed.")}
_PADDED = 8      # one in so many tokens of the last group


def define_flags():
  for name, (value, text) in _SIZES.items():
    flags.DEFINE_integer(name, value, text, lower_bound=1)
  flags.DEFINE_list("back_ends", list(backends.NAMES), "What is measured; of "
                    "these, and the first is what others are compared with.")


def measure() -> dict:
  """By the flags; see the header."""
  return measured(flags.FLAGS.back_ends,
                  **{name: flags.FLAGS[name].value for name in _SIZES})


def measured(back_ends: list[str], **sizes) -> dict:
  """What each costs here; `sizes` are those of the flags.

  Raises:
    UserError: there is no such back-end.
  """
  if unknown := sorted(set(back_ends) - set(backends.NAMES)):
    raise UserError(f"There is no back-end {unknown[0]!r} of attention; have "
                    f"{', '.join(backends.NAMES)}.")
  # This process must not take the accelerator: one at a time may have it.
  run = lambda name, **more: fresh.run(f"{__name__}:{name}", sizes | more)
  found = run("compared", back_ends=back_ends)
  return found | {
      "back_ends": {
          name: run("cost", back_end=name) | {"difference": difference}
          for name, difference in found.pop("difference").items()},
      "sizes": sizes, "machine": fresh.machine()}


def compared(back_ends: list[str], **sizes) -> dict:
  """Which run here, and how far they are from the first of these."""
  left_out = {name: why for name in back_ends if (why := fault(name, **sizes))}
  inputs, first, difference = make_inputs(**sizes), None, {}
  for name in back_ends:
    if name in left_out:
      continue
    got = [np.asarray(x, np.float32)
           for x in _compiled(name, inputs)(*inputs)]
    first = first or got
    difference[name] = float(f"{max(map(_difference, got, first)):.1e}")
  return {"difference": difference, "left_out": left_out,
          "dtype": str(inputs[0].dtype),
          "device": jax.local_devices()[0].device_kind}


def fault(back_end: str, *, tokens: int, heads: int, head_width: int, **_
          ) -> str:
  """Why a back-end cannot be measured here; "" where it can."""
  if back_end == "cudnn":
    return backends.cudnn_fault()
  if back_end not in ("fused", "splash"):
    return ""
  if jax.default_backend() != "tpu":
    return "a kernel for TPUs, which is only interpreted here"
  # pylint: disable=g-import-not-at-top
  from itemclip_jax.ops import fused_attention, splash_attention
  takes = (fused_attention.fits(tokens, heads, head_width, backends.chip())
           if back_end == "fused" else splash_attention.fits(head_width))
  return "" if takes else "it does not take these sizes"


def cost(back_end: str, repeats: int, **sizes) -> dict:
  """Seconds and bytes of one of them."""
  inputs = make_inputs(**sizes)
  run, inside = _compiled(back_end, inputs), _Peak()
  jax.block_until_ready(run(*inputs))
  found = {"peak_bytes": inside.above()}
  seconds = fresh.seconds(lambda: jax.block_until_ready(run(*inputs)), repeats)
  return found | {"seconds": min(seconds), "seconds_all": seconds,
                  "gflops": flops(**sizes) / min(seconds) / 1e9}


def flops(groups: int, tokens: int, heads: int, head_width: int, **_) -> int:
  """Of the matrix products, forward and backward."""
  return 12 * groups * tokens**2 * heads * head_width


def make_inputs(groups: int, tokens: int, heads: int, head_width: int, **_):
  """Query, key, value, gradient of the result, and the mask; on the device."""
  rng = np.random.default_rng(0)
  dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
  shape = (groups, tokens, heads, head_width)
  arrays = [rng.standard_normal(shape, np.float32).astype(dtype)
            for _ in range(4)]
  mask = np.ones((groups, tokens), bool)
  mask[-1, tokens - tokens // _PADDED:] = False
  return jax.block_until_ready(jax.device_put((*arrays, mask)))


def _compiled(back_end: str, inputs):
  """The result and three gradients, for such inputs."""
  def run(query, key, value, grad, mask):
    out, back = jax.vjp(
        lambda *x: backends.NAMES[back_end](*x, mask, False), query, key, value)
    return out, *back(grad)
  return jax.jit(run).lower(*inputs).compile()


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
  return np.abs(ours - theirs).max() / np.abs(theirs).max()


class _Peak:
  """Peak memory above what is taken when this is made; in bytes."""

  def __init__(self):
    self._process = fresh.Peak()
    self._ready = self._stats().get("bytes_in_use")

  def above(self) -> int:
    if self._ready is None:      # its devices are the processor
      return self._process.above()
    return self._stats()["peak_bytes_in_use"] - self._ready

  def _stats(self) -> dict:
    return jax.local_devices()[0].memory_stats() or {}

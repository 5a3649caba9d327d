"""All back-ends compute one thing: values and gradients, with padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.models import layers
from itemclip_jax.ops import attention
from itemclip_jax.ops import attention_backends as backends
from itemclip_jax.ops import fused_attention
from itemclip_jax.parallel import mesh as mesh_lib
from itemclip_jax.parallel import sharding

# Interpreted kernels; cudnn needs its hardware.
OTHERS = ("chunked", "fused", "splash")
# float32: sums of some hundred terms; bfloat16: three roundings of 2^-9.
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


def arrays(G=2, Q=37, N=37, A=4, F=64, dtype="float32", seed=0):
  """query, key, value, cotangent and a mask that hides the end of group 1."""
  rng = np.random.default_rng(seed)
  q, k, v, t = (jnp.asarray(rng.normal(size=(G, n, A, F)), dtype)
                for n in (Q, N, N, Q))
  mask = np.arange(N) < np.resize([N, max(1, N // 3)], G)[:, None]
  return q, k, v, t, jnp.asarray(mask)


def value_and_gradients(name, q, k, v, t, mask, **options):
  with attention.using(name):
    out, back = jax.vjp(lambda *x: attention.attend(*x, mask, **options),
                        q, k, v)
    return out, *back(t)


def close(ours, theirs, dtype):
  """Every entry within the tolerance of the largest, at least of 1."""
  for a, b in zip(ours, theirs, strict=True):
    a, b = (np.asarray(x, np.float32) for x in (a, b))
    np.testing.assert_allclose(a, b, rtol=0,
                               atol=TOLERANCE[dtype] * max(1, np.abs(b).max()))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", OTHERS)
def test_back_ends_agree_forward_and_backward_with_padding(name, dtype):
  x = arrays(dtype=dtype)
  exact = value_and_gradients("xla", *(a.astype(jnp.float32) if a.dtype != bool
                                       else a for a in x))
  close(value_and_gradients(name, *x), exact, dtype)


@pytest.mark.parametrize("name, sizes", [
    (name, sizes) for name in OTHERS for sizes in (
        dict(Q=5, N=130), dict(Q=130, N=5), dict(G=1, Q=1, N=1),
        dict(A=2, F=64, Q=20, N=20), dict(A=1, F=128, Q=9, N=9))
    if name != "fused" or sizes["Q"] == sizes["N"]])
def test_back_ends_agree_at_odd_sizes(name, sizes):
  x = arrays(**sizes)
  close(value_and_gradients(name, *x), value_and_gradients("xla", *x),
        "float32")


@pytest.mark.parametrize("tokens, most, rows", [
    (37, 16, 16), (48, 16, 16), (80, 48, 48), (96, 48, 48), (37, 48, 37)])
def test_fused_kernels_take_queries_in_blocks(monkeypatch, tokens, most, rows):
  """37 rows in blocks of 16: the last block reaches beyond the end."""
  monkeypatch.setattr(fused_attention, "_LOGITS", 16 * tokens * most)
  assert fused_attention._rows(tokens) == rows
  x = arrays(Q=tokens, N=tokens)
  close(value_and_gradients("fused", *x), value_and_gradients("xla", *x),
        "float32")


def test_blocks_divide_the_groups_of_the_published_models():
  """Slices, series and studies, in half precision: no row is worked on twice."""
  for tokens in (200, 256, 1184, 2800, 11_840):
    assert tokens % fused_attention._rows(tokens) == 0


@pytest.mark.parametrize("sizes", [dict(Q=5, N=130), dict(A=3, F=64)])
def test_fused_kernels_say_what_they_do_not_take(sizes):
  with pytest.raises(ValueError, match="self-attention|multiple of 128"):
    value_and_gradients("fused", *arrays(**sizes))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_layer_computes_the_same_from_one_product(dtype):
  """Values and gradients of parameters, kernels packed or not."""
  layer = layers.SelfAttention(4, dtype=dtype)
  x, _, _, t, mask = arrays(G=3, Q=16, N=16, dtype=dtype)
  x, t = (a.reshape(3, 16, -1) for a in (x, t))
  params = layer.init(jax.random.key(0), x)

  def run(name):
    with attention.using(name):
      out, back = jax.vjp(lambda p, x: layer.apply(p, x, mask), params, x)
      of_params, of_x = back(t)
      # All logits of a query move together: exactly 0, the rest is rounding.
      of_params["params"]["key"].pop("bias")
      return jax.tree.leaves((out, of_params, of_x))

  close(run("fused"), run("xla"), dtype)


@pytest.mark.parametrize("rows", [16, 48])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_fused_kernels_see_what_a_causal_query_sees(monkeypatch, dtype, rows):
  monkeypatch.setattr(fused_attention, "_LOGITS", 16 * 37 * rows)
  x = arrays(dtype=dtype)
  close(value_and_gradients("fused", *x, causal=True),
        value_and_gradients("xla", *x, causal=True), dtype)


def test_fused_kernels_take_a_tile_of_heads_at_a_time(monkeypatch):
  monkeypatch.setattr(fused_attention, "_SHORT", 0)
  x = arrays(A=6)
  close(value_and_gradients("fused", *x), value_and_gradients("xla", *x),
        "float32")


@pytest.mark.parametrize("most", [1, 64, 10**9])
def test_size_of_chunks_changes_nothing(monkeypatch, most):
  monkeypatch.setattr(backends, "_CHUNK", most)
  x = arrays(Q=11, N=11, A=1)
  close(value_and_gradients("chunked", *x), value_and_gradients("xla", *x),
        "float32")


def test_chunks_see_what_a_causal_query_sees(monkeypatch):
  monkeypatch.setattr(backends, "_CHUNK", 64)
  q, k, v, _, mask = arrays(Q=11, N=11, A=1)
  close([backends.chunked(q, k, v, mask, True)],
        [backends.xla(q, k, v, mask, True)], "float32")


@pytest.mark.parametrize("name", ("xla",) + OTHERS)
def test_padding_never_leaks(name):
  q, k, v, t, mask = arrays()
  poisoned = [jnp.where(mask[..., None, None], x, 1e4) for x in (k, v)]
  clean = value_and_gradients(name, q, k, v, t, mask)
  dirty = value_and_gradients(name, q, *poisoned, t, mask)
  close(dirty, clean, "float32")
  for gradient in dirty[2:]:
    np.testing.assert_array_equal(np.asarray(gradient)[~np.asarray(mask)], 0)


@pytest.mark.parametrize("name", ("xla",) + OTHERS)
def test_a_group_of_padding_alone_stays_finite(name):
  q, k, v, t, mask = arrays()
  for x in value_and_gradients(name, q, k, v, t, mask & False):
    assert np.isfinite(np.asarray(x)).all()


@pytest.mark.parametrize("name", ("xla",) + OTHERS)
def test_sharded_equals_unsharded(name):
  x = arrays(G=8, Q=9, N=9, A=2)
  mesh = mesh_lib.make_mesh(4, 2, jax.devices()[:8])
  alone = value_and_gradients(name, *x)
  with jax.set_mesh(mesh):
    spread = jax.device_put(x, sharding.batch_sharding(mesh))
    close(jax.jit(functools.partial(value_and_gradients, name))(*spread),
          alone, "float32")


def largest_intermediate(jaxpr) -> int:
  """Elements of the largest array made anywhere in a program."""
  most = 0
  for eqn in jaxpr.eqns:
    most = max([most] + [int(np.prod(v.aval.shape)) for v in eqn.outvars])
    for inner in jax.core.jaxprs_in_params(eqn.params):
      most = max(most, largest_intermediate(inner))
  return most


def test_whole_studies_never_materialise_their_square():
  """11 760 tokens of ten series, forward and backward, on any device."""
  shape = jax.ShapeDtypeStruct((1, 11_761, 12, 64), jnp.float32)
  grad = jax.grad(lambda q, k, v: attention.attend(q, k, v).sum(), (0, 1, 2))
  made = largest_intermediate(jax.make_jaxpr(grad)(shape, shape, shape).jaxpr)
  assert made < 11_761 ** 2 / 4


def of(G, T, A=12, F=64, dtype="bfloat16"):
  x = jax.ShapeDtypeStruct((G, T, A, F), dtype)
  return x, x


@pytest.mark.parametrize("where, size, causal, wanted", [
    ("TPU v5 lite", of(448, 197), False, "fused"),     # slices of chest CT
    ("TPU v6 lite", of(32, 2745), False, "fused"),     # whole volumes
    ("TPU v6 lite", of(16, 11_761), False, "fused"),   # whole studies of MRI
    ("TPU v6 lite", of(4, 40_000), False, "splash"),
    ("TPU v4", of(16, 2745), False, "splash"),         # little fast memory
    ("TPU v5 lite", of(16, 50), False, "xla"),
    ("TPU v5 lite", of(16, 77), True, "fused"),        # CLIP's texts
    ("TPU v4", of(16, 77), True, "xla"),
    ("TPU v5", of(32, 2745), False, "fused"),
    ("TPU v5 lite", of(16, 2745, F=48), False, "chunked"),
    ("cpu", of(8, 197), False, "xla"),
    ("cpu", of(8, 2745), False, "chunked"),
    ("gpu", of(8, 197), False, "xla"),          # no GPU here: cudnn has a fault
])
def test_the_back_end_suits_device_and_size(
    monkeypatch, where, size, causal, wanted):
  monkeypatch.setattr(backends, "chip", lambda: where)
  platform = where.split()[0].lower()
  assert attention._suited(*size, causal, platform) == wanted


def test_the_log_names_what_runs():
  assert "xla" in attention.describe("auto")
  assert attention.describe("splash") == "attention: splash"
  assert "no GPU" in backends.cudnn_fault()

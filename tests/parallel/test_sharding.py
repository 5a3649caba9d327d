"""Every parameter has a written layout; activations keep theirs."""

import pathlib
import re

import jax
from jax.sharding import PartitionSpec as P
import jax.numpy as jnp
import pytest

from configs import demo, eclip, fvlm
from itemclip_jax import objectives
from itemclip_jax.config import schema
from itemclip_jax.interop import model_shapes
from itemclip_jax.models.resnet import Resnet
from itemclip_jax.models.swin import Swin
from itemclip_jax.parallel import sharding
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.train import optimizer, step
from tests import tiny
from tests.models import pictures

CONFIGS = {  # by file of the written layout
    "golden_layout.txt": schema.from_config_dict(demo.get_config()),
    "golden_layout_pictures.txt": pictures.config(),
    "golden_layout_fvlm.txt": schema.from_config_dict(
        fvlm.get_config("phantom")),
    "golden_layout_eclip.txt": schema.from_config_dict(
        eclip.get_config("phantom")),
}
TOWERS = {
    "golden_layout_resnet.txt": Resnet(norm="frozen_batch"),
    "golden_layout_swin.txt": Swin(),
}
HOW_TO_UPDATE = (
    "The layout differs from {}. If that is meant, write it anew with `python "
    "-m tests.parallel.test_sharding` and review the difference.")


@pytest.fixture(name="state", scope="module")
def _state():
  """Shapes of the demo's train state; nothing is computed."""
  return _abstract_state(CONFIGS["golden_layout.txt"])


def _abstract_state(c: schema.Config):
  return jax.eval_shape(lambda: step.init_state(
      tiny.model(c), objectives.make(c), optimizer.make_optimizer(c, 10),
      model_shapes.zeros(c), c.seed))


def _abstract_params(file: str):
  if file in CONFIGS:
    return _abstract_state(CONFIGS[file]).params
  picture = jnp.zeros((1, 1, 3, 64, 64)), jnp.ones((1, 1), bool)
  return jax.eval_shape(
      lambda: TOWERS[file].init(jax.random.key(0), *picture))["params"]


def _layout(file: str) -> str:
  return sharding.describe(_abstract_params(file), fsdp=4) + "\n"


@pytest.mark.parametrize("file", [*CONFIGS, *TOWERS])
def test_layout_on_four_shards_is_the_written_one(file):
  written = pathlib.Path(__file__).with_name(file).read_text()
  assert _layout(file) == written, HOW_TO_UPDATE.format(file)


def test_every_rule_is_used():
  written = pathlib.Path(__file__).parent.glob("golden_layout*.txt")
  paths = [line.split()[0] for file in written
           for line in file.read_text().splitlines()]
  for pattern, _ in sharding.PARAM_RULES:
    assert any(re.search(pattern, path) for path in paths), pattern


def test_a_path_that_no_rule_matches_raises():
  with pytest.raises(ValueError, match="matches parameter 'tower/gate'"):
    sharding.param_spec("tower/gate", (8, 8), fsdp=4)
  with pytest.raises(ValueError, match="must be written down"):
    sharding.tree_shardings({"gate": jnp.zeros((8, 8))}, make_mesh(2, 4))


@pytest.mark.parametrize("path, shape, fsdp, spec", [
    ("block0/mlp/fc1/kernel", (8, 16), 4, P("fsdp", None)),
    ("block0/mlp/fc1/kernel", (6, 16), 4, P(None, "fsdp")),  # 6 does not divide
    ("block0/mlp/fc1/kernel", (6, 10), 4, P()),              # nor does 10
    ("block0/attention/query/kernel", (6, 12, 8), 4, P(None, "fsdp", None)),
    ("block0/attention/out/kernel", (2, 4, 8), 4, P(None, None, "fsdp")),
    ("text_tower/word/embedding", (512, 96), 4, P(None, "fsdp")),
    ("text_tower/word/embedding", (512, 6), 4, P("fsdp", None)),
    ("stage1_block0/conv2/kernel", (3, 3, 64, 128), 4,
     P(None, None, "fsdp", None)),
    ("stage1_block0/down_conv/kernel", (1, 1, 6, 128), 4,
     P(None, None, None, "fsdp")),
    ("stage1_block0/norm2/var", (64,), 4, P()),
    ("stage1_block0/attention/relative_bias", (169, 4), 4, P()),
    ("block0/norm1/scale", (64,), 4, P()),
    ("vision/spatial_position", (4, 4, 4, 96), 4, P()),
    ("block0/mlp/fc1/kernel", (8, 16), 1, P()),
])
def test_an_axis_that_does_not_divide_gives_way(path, shape, fsdp, spec):
  assert sharding.param_spec(path, shape, fsdp) == spec


def test_optimiser_moments_follow_their_parameters(state):
  layout = sharding.tree_shardings(state, make_mesh(2, 4))
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
  params = {name(path): (leaf.shape, split.spec) for (path, leaf), split in zip(
      jax.tree_util.tree_leaves_with_path(state.params),
      jax.tree.leaves(layout.params))}
  followed = set()
  for (path, leaf), split in zip(
      jax.tree_util.tree_leaves_with_path(state.opt_state),
      jax.tree.leaves(layout.opt_state)):
    moment = re.search(r"/(mu|nu)/(.+)$", name(path))
    if moment:
      assert (leaf.shape, split.spec) == params[moment[2]]
      followed.add(moment[2])
    else:
      assert split.spec == P() and leaf.shape == ()
  assert params.keys() - followed == {"vision/spatial_position"}


def test_constrain_is_a_no_op_without_a_mesh_and_pins_rows_with_one():
  x = jnp.zeros((8, 3))
  assert sharding.constrain(x, ("batch", None)) is x
  mesh = make_mesh(2, 4)
  with jax.set_mesh(mesh):
    pinned = jax.jit(lambda x: sharding.constrain(x, ("batch", None)))(x)
  assert pinned.sharding.is_equivalent_to(sharding.batch_sharding(mesh), 2)


if __name__ == "__main__":
  for name in (*CONFIGS, *TOWERS):
    pathlib.Path(__file__).with_name(name).write_text(_layout(name))

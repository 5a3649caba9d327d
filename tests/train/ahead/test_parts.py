"""Names of operations -> parts of the model."""

import pytest

from itemclip_jax.config import schema
from itemclip_jax.train.ahead import chips, parts, schedule
from tests.train.ahead import texts

_CONFIG = schema.Config(vision=schema.Vision(slice_blocks=(0, 1),
                                             study_blocks=(2,)))
_FORWARD = "jit(train_step)/jvp(DualEncoder)/DualEncoder._see/vision/"
_BACKWARD = ("jit(train_step)/transpose(jvp(DualEncoder))/DualEncoder._see/"
             "vision/jvp(DualEncoder)/DualEncoder._see/vision/checkpoint/")


@pytest.mark.parametrize("scope, part, direction", [
    (_FORWARD + "block1/attention/query/dot_general", "attention, slice",
     "forward"),
    (_BACKWARD + "block2/attention/add", "attention, study", "backward"),
    (_BACKWARD + "rematted_computation/block3/attention/reduce_sum",
     "attention, series", "again"),
    (_FORWARD + "vision._looped/while/body/series_level/Block/attention/mul",
     "attention, series", "forward"),
    (_FORWARD + "block11/mlp/fc1/dot_general", "mlp", "forward"),
    (_FORWARD + "block11/norm1/rsqrt", "rest of blocks", "forward"),
    (_FORWARD + "vision._embed/patch/dot_general", "patch embedding",
     "forward"),
    (_FORWARD + "norm/mul", "rest of vision tower", "forward"),
    ("jit(train_step)/transpose(jvp(DualEncoder))/DualEncoder.text/text_tower/"
     "layer0_mlp/fc1/dot_general", "text tower", "backward"),
    ("jit(train_step)/jvp(DualEncoder)/vision_proj/dot_general", "projections",
     "forward"),
    ("jit(train_step)/transpose(jvp(bajn,bnaf->bjaf))/dot_general", "losses",
     "backward"),
    ("jit(train_step)/mul", "optimiser and the rest", "forward"),
    ("~jit(train_step)/mul", "optimiser and the rest", "forward"),
    ("", "without a name", "forward")])
def test_every_name_has_its_part(scope, part, direction):
  assert parts.part(scope, _CONFIG) == part
  assert parts.direction(scope) == direction


def test_shares_add_up_and_loops_count_their_turns():
  chip = chips.Chip(peak=1e12, hbm=1, bandwidth=1e9, clock=1e3, links=1e9)
  table = parts.table(schedule.Schedule(texts.LOOP), _CONFIG, chip)
  # At 1000 cycles a second: 3 turns of 100 in the MLP, 30 outside.
  assert table["mlp"]["forward"] == pytest.approx(300)
  assert table["optimiser and the rest"]["forward"] == pytest.approx(30)
  assert table["mlp"]["share"] == pytest.approx(300 / 330, abs=1e-4)

"""Which checkpoints stay, which are found, and which are not trusted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.train.checkpoint import Checkpoints
from itemclip_jax.train.step import TrainState


def state_of(step: int, bad_step: int = -1) -> TrainState:
  return TrainState(
      step=jnp.int32(step), bad_step=jnp.int32(bad_step), opt_state=(),
      params={"vision_proj": {"kernel": jnp.full((4, 2), float(step))}},
      extra={})


def write(workdir, losses: dict[int, float | None], keep=2):
  """Saves a checkpoint for each step; None: no validation."""
  with Checkpoints(workdir, keep) as checkpoints:
    for step, loss in losses.items():
      checkpoints.save(step, state_of(step), {"at": step},
                       {} if loss is None else {"loss/total": loss})


def steps(workdir) -> set[int]:
  return {int(p.name) for p in (workdir / "checkpoints").iterdir()
          if p.name.isdigit()}


def restored(checkpoints: Checkpoints, mesh, step: int) -> float:
  state = checkpoints.restore(step, jax.eval_shape(lambda: state_of(0)), mesh)
  return float(state.params["vision_proj"]["kernel"][0, 0])


def test_the_newest_and_the_best_stay(tmp_path):
  write(tmp_path, {1: 5.0, 2: 1.0, 3: 4.0, 4: 3.0, 5: 2.0})
  assert steps(tmp_path) == {2, 4, 5}
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    assert checkpoints.latest() == 5 and checkpoints.best() == 2


def test_what_was_not_validated_is_not_the_best(tmp_path):
  write(tmp_path, {1: 5.0, 2: None, 3: None, 4: None})
  assert steps(tmp_path) == {1, 3, 4}
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    assert checkpoints.best() == 1


def test_a_metric_that_is_not_finite_is_not_the_best(tmp_path):
  write(tmp_path, {1: float("nan"), 2: 5.0, 3: float("nan"), 4: 9.0})
  assert steps(tmp_path) == {2, 3, 4}
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    assert checkpoints.best() == 2


def test_without_validation_there_is_no_best(tmp_path):
  write(tmp_path, {1: None, 2: None, 3: None})
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    assert checkpoints.best() is None and checkpoints.latest() == 3


def test_a_folder_without_checkpoints_has_none_and_stays_empty(tmp_path):
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    assert checkpoints.latest() is None and checkpoints.best() is None
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lost", [
    "meta/metadata", "state/manifest.ocdbt", "_CHECKPOINT_METADATA"])
def test_half_a_checkpoint_is_never_picked(tmp_path, mesh, lost, capsys):
  write(tmp_path, {1: 2.0, 2: 3.0})
  (tmp_path / "checkpoints" / "2" / lost).unlink()
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    assert checkpoints.latest() == 1
  assert steps(tmp_path) == {1, 2}  # reading changes nothing
  with Checkpoints(tmp_path) as checkpoints:
    assert "is not whole; it is now 2.incomplete." in capsys.readouterr().out
    assert restored(checkpoints, mesh, checkpoints.latest()) == 1.0
    checkpoints.save(2, state_of(2), {"at": 2}, {})
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    assert restored(checkpoints, mesh, 2) == 2.0
  assert list((tmp_path / "checkpoints").glob("2.incomplete.*"))


def test_what_an_interrupted_write_left_is_no_checkpoint(tmp_path):
  write(tmp_path, {1: 2.0})
  (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir()
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest() == 1
    checkpoints.save(2, state_of(2), {"at": 2}, {})
  assert steps(tmp_path) == {1, 2}


def test_a_damaged_checkpoint_is_told_and_left_alone(tmp_path, mesh):
  write(tmp_path, {1: 2.0})
  data = max((tmp_path / "checkpoints" / "1" / "state").rglob("*"),
             key=lambda p: p.stat().st_size if p.is_file() else 0)
  data.write_bytes(data.read_bytes()[:20])
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    with pytest.raises(ValueError, match="step 1 in .* cannot be read"):
      restored(checkpoints, mesh, 1)
  assert steps(tmp_path) == {1}


def test_parameters_alone_can_be_read(tmp_path, mesh):
  write(tmp_path, {3: 2.0})
  shape = jax.ShapeDtypeStruct((4, 2), jnp.float32)
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    params = checkpoints.restore_params(
        3, {"vision_proj": {"kernel": shape}}, mesh)
    np.testing.assert_array_equal(params["vision_proj"]["kernel"], 3.0)
    with pytest.raises(ValueError, match=(
        r"text_proj/kernel \(4, 2\), stored not at all")):
      checkpoints.restore_params(3, {"text_proj": {"kernel": shape}}, mesh)


def test_a_state_that_is_not_finite_is_refused(tmp_path):
  write(tmp_path, {1: 2.0})
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(FloatingPointError, match="good checkpoint is 1"):
      checkpoints.save(3, state_of(3, bad_step=2), {}, {})
  assert steps(tmp_path) == {1}

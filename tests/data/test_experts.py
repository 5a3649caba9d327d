"""Expert rows: which records they are, and what they bring along."""

import dataclasses

import numpy as np
import pytest

from itemclip_jax.config import schema
from itemclip_jax.data import loader

N, STEPS = 20, 9
EXPERTS, MANY = (3, 8, 9, 15, 17), tuple(range(0, 20, 2))


class Studies:
  """A split in memory; some studies were looked at by an expert."""

  def __init__(self, experts=EXPERTS):
    self.index = {"num_series": np.ones(N, int),
                  "expert": np.isin(np.arange(N), experts)}

  def study(self, number):
    return {"record": number}


@dataclasses.dataclass
class Make:
  """Tells the record and a draw."""
  config: schema.Config

  def __call__(self, study, num_series, rng, *, expert, room):
    assert num_series == 1
    volume = room((1, 1, 1, 1), np.uint8)
    volume[:] = study["record"]
    return {"record": np.int64(study["record"]), "draw": rng.uniform(),
            "expert": np.bool_(expert), "example_mask": np.True_,
            "volume": volume}


def config(expert_batch=4, rows="drawn", batch=4):
  raw = schema.defaults()
  raw.data.update(root="there", max_series=1, expert_batch=expert_batch,
                  num_threads=2)
  raw.train.global_batch = batch
  raw.eclip.expert_rows = rows
  return schema.from_config_dict(raw)


def batches(c, split=None, **kwargs):
  return list(loader.train_loader(split or Studies(), Make(c), steps=STEPS,
                                  **kwargs))


@pytest.fixture(name="drawn", scope="module")
def _drawn():
  return batches(config())


def test_expert_rows_end_every_batch(drawn):
  for x in drawn:
    assert x["expert"].tolist() == [False] * 4 + [True] * 4
    assert x["example_mask"].all()
    assert set(x["record"][4:].tolist()) <= set(EXPERTS)
  assert any(np.isin(x["record"][:4], EXPERTS).any() for x in drawn)


def test_ordinary_rows_are_those_of_a_run_without_experts(drawn):
  for with_experts, plain in zip(drawn, batches(config(0))):
    assert not plain["expert"].any() and plain["example_mask"].all()
    for name in ("record", "draw"):
      np.testing.assert_array_equal(with_experts[name][:4], plain[name])


def test_all_experts_have_their_turn_and_none_twice_in_a_batch(drawn):
  rows = [x["record"][4:].tolist() for x in drawn]
  assert all(len(set(r)) == 4 for r in rows)
  assert {r for row in rows for r in row} == set(EXPERTS)
  assert len({tuple(r) for r in rows}) > 5


def test_fewer_experts_than_rows_are_repeated_with_other_draws():
  for x in batches(config(), Studies(experts=(6,))):
    assert x["record"][4:].tolist() == [6] * 4
    assert len(set(x["draw"][4:])) == 4
  for x in batches(config(5), Studies(experts=(2, 6))):
    assert sorted(np.bincount(x["record"][4:])[[2, 6]]) == [2, 3]


def test_no_expert_at_all_is_told():
  with pytest.raises(ValueError, match=(
      "data.expert_batch=4, but no study of split 'train' in there")):
    batches(config(), Studies(experts=()))


@pytest.mark.parametrize("rows", ["drawn", "own"])
@pytest.mark.parametrize("processes", [2, 4, 8])
def test_rows_of_processes_join_to_the_batch_of_one(rows, processes):
  c = config(rows=rows)
  parts = [batches(c, process=p, num_processes=processes)
           for p in range(processes)]
  for whole, *shares in zip(batches(c), *parts, strict=True):
    for name in whole:
      np.testing.assert_array_equal(
          np.concatenate([s[name] for s in shares]), whole[name])


def test_a_batch_follows_from_the_step_and_the_seed(drawn):
  for ours, theirs in zip(batches(config(), first_step=5), drawn[5:],
                          strict=True):
    for name in ours:
      np.testing.assert_array_equal(ours[name], theirs[name])
  other = batches(dataclasses.replace(config(), seed=1))
  assert any((a["record"][4:] != b["record"][4:]).any()
             for a, b in zip(other, drawn))


def test_experts_are_drawn_apart_from_ordinary_rows():
  everyone = Studies(experts=range(N))
  same = [np.isin(x["record"][4:], x["record"][:4]).all()
          for x in batches(config(), everyone)]
  assert not any(same)


def test_own_rows_repeat_the_batchs_annotated_studies_draw_by_draw():
  filled, cut = 0, 0
  for x in batches(config(4, rows="own", batch=8), Studies(MANY)):
    annotated = np.isin(x["record"][:8], MANY)
    real = x["example_mask"][8:]
    filled += int((~real).sum())
    cut += annotated.sum() > 4
    wanted = x["record"][:8][annotated][:4]
    np.testing.assert_array_equal(x["record"][8:][real], wanted)
    np.testing.assert_array_equal(x["draw"][8:][real],
                                  x["draw"][:8][annotated][:4])
    assert real.sum() == min(4, annotated.sum()) and x["expert"][8:].all()
    assert x["example_mask"][:8].all()
  assert filled and cut


def test_rows_of_a_batch_are_those_of_its_records():
  split = Studies()
  found = loader.batches_of(split, config()).rows(2)
  order = loader.order_of(split, config())
  assert [r.record for r in found[:4]] == order.batch(2)[0].tolist()
  assert [r.expert for r in found] == [False] * 4 + [True] * 4

"""Organ by organ: windows, scores, organs that are not there, a real model."""

import dataclasses
import json
from types import SimpleNamespace

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.datasets import ct_rate
from data_pipelines.organs import grouping
from data_pipelines.phantom import chest_organs, chest_report
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import embed, measures, organ_zeroshot, prompts
from itemclip_jax.evaluators import scoring
from itemclip_jax.evaluators.prompts import Task
from itemclip_jax.parallel.mesh import make_mesh
from tests import tiny

PATCH, SHAPE = (2, 4, 4), (4, 8, 8)       # of the model
HAVE = (9, 14, 11)                        # of the studies
ORGANS = ("lung", "heart", "aorta")
FINDINGS = {"Nodule": {"label": "nodule"}, "Big": {"label": "big"}}
VECTORS = {"a nodule": (3.0, 4.0), "no nodule": (0.0, 2.0),
           "big": (1.0, 0.0), "small": (0.0, -1.0)}
TASKS = {"Nodule": Task(label="nodule", organ="lung", prompts=("a nodule",),
                        negatives=("no nodule",)),
         "Big": Task(label="big", organ="heart", prompts=("big",),
                     negatives=("small",))}


def study(row: int) -> dict:
  """The lung is larger than the model; the heart of study 2 is missing."""
  mask = np.zeros(HAVE, np.uint8)
  mask[1:8, 2:12, 3:9] = 1
  if row != 2:
    mask[0:2, 12:14, 0:2] = 2
  rng = np.random.default_rng(row)
  return {"study_id": f"s{row}", "organ_mask": mask,
          "volume": rng.integers(0, 9, (1, *HAVE)).astype(np.int16),
          "affine": np.eye(4)[None]}


class Scorer:
  """Its vector of an organ: sum and number of the organ's voxels."""
  logit_scale = 2.0

  def __init__(self):
    self.shapes = []

  def texts(self, texts):
    return np.array([VECTORS[t] for t in texts], np.float32)

  def organs(self, volume, organ_mask):
    assert len(volume) == 2 and volume.shape[2:] == organ_mask.shape[1:]
    self.shapes.append(volume.shape)
    out = np.zeros((2, 3, 2), np.float32)
    for b in range(2):
      for r in range(3):
        inside = volume[b, 0][organ_mask[b] == r + 1]
        if inside.size:
          v = np.array([inside.sum(), inside.size])
          out[b, r] = v / np.linalg.norm(v)
    return out


def context(tasks=None, *, num=5, **spec):
  findings = FINDINGS
  studies = type("Studies", (), {"__len__": lambda self: num})()
  for name, value in dict(
      split=SimpleNamespace(findings=findings, organs=ORGANS, study=study),
      make_example=SimpleNamespace(air=-1.0), batch=2,
      study_id=np.array([f"s{i}" for i in range(num)]),
      patient_id=np.array([f"p{i}" for i in range(num)]),
      labels=np.random.default_rng(0).integers(0, 2, (num, 2)).astype(
          np.int8)).items():
    setattr(studies, name, value)
  settings = dict(kind="pair", threshold_points=199) | spec
  return SimpleNamespace(
      name="organs", scorer=Scorer(), studies=studies,
      spec=prompts.PromptSet(
          name="organs", sha256="", description="d", source="s", version="1",
          evaluator="organ_zeroshot", tasks=tasks or TASKS, **settings),
      config=SimpleNamespace(
          vision=SimpleNamespace(volume_shape=SHAPE, patch=PATCH),
          eval=SimpleNamespace(threshold_split=""),
          data=SimpleNamespace(root="there")))


def probability(inside: np.ndarray, asked: Task) -> float:
  """Softmax over no and yes, written out."""
  v = np.array([inside.sum(), inside.size], float)
  yes, no = (np.array(VECTORS[t[0]]) for t in (asked.prompts, asked.negatives))
  cosine = lambda u: u @ v / np.linalg.norm(u) / np.linalg.norm(v)
  a, b = np.exp(2.0 * cosine(no)), np.exp(2.0 * cosine(yes))
  return b / (a + b)


def test_a_whole_organ_answers_in_its_window_and_a_part_in_the_middle():
  table = organ_zeroshot.Evaluator(context()).collect()
  for row in range(5):
    one = study(row)
    for number, (task, asked) in enumerate(TASKS.items()):
      organ = one["organ_mask"] == number + 1
      middle = np.zeros(HAVE, bool)
      middle[2:6, 3:11, 1:9] = True
      for kind, seen in (("tcsim", organ), ("global", organ & middle)):
        got, inside = table[f"{kind}/{task}"][row], one["volume"][0][seen]
        if inside.size:
          assert got == pytest.approx(probability(inside, asked), rel=1e-6)
        else:
          assert got == 0.0
  assert table["tcsim/Big"][2] == 0 < table["tcsim/Big"][1]
  assert not table["global/Big"].any()     # the heart lies in a corner


def test_numbers_are_named_and_judged_as_those_of_zeroshot_auc():
  asked = context()
  evaluator = organ_zeroshot.Evaluator(asked)
  table, meta = evaluator.collect(), evaluator.meta()
  meta = json.loads(json.dumps(meta))
  found = measures.results(organ_zeroshot.measure("organs", table, meta), table,
                           num_resamples=5, seed=0)
  assert {"organs/mean_tcsim", "organs/mean_global", "organs/tcsim/Nodule",
          "organs/accuracy@test/Big", "organs/accuracy@half/Big",
          "organs/threshold@test/Big"} <= found.keys()
  scores, labels = table["tcsim/Nodule"], table["label/Nodule"]
  pairs = [(a > b) + (a == b) / 2 for a in scores[labels == 1]
           for b in scores[labels == 0]]
  assert found["organs/tcsim/Nodule"].value == pytest.approx(np.mean(pairs))
  assert meta["organs"] == {"Nodule": "lung", "Big": "heart"}
  assert not evaluator.prompts


def test_few_shapes_are_compiled():
  asked = context()
  organ_zeroshot.Evaluator(asked).collect()
  shapes = {s[2:] for s in asked.scorer.shapes}
  assert shapes == {SHAPE, (8, 12, 8)}     # the lung has 7 x 10 x 6 voxels
  bigger = context(options={"roi": [9, 14, 11]})
  organ_zeroshot.Evaluator(bigger).collect()
  assert {s[2:] for s in bigger.scorer.shapes} == {SHAPE, (10, 16, 12)}


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=200, deadline=None)
def test_a_window_holds_its_organ_and_leaves_the_volume_only_if_it_must(data):
  number = lambda low, high: data.draw(st.integers(low, high))
  have = tuple(number(2, 40) for _ in range(3))
  box = np.array([sorted((number(0, n - 1), number(1, n))) for n in have])
  box[:, 1] = np.maximum(box[:, 1], box[:, 0] + 1)
  roi, patch = (tuple(number(1, 20) for _ in range(3)),
                tuple(number(1, 5) for _ in range(3)))
  size, offset = organ_zeroshot.window(have, box, roi, patch)
  for axis in range(3):
    n, p, (low, high) = size[axis], patch[axis], box[axis]
    assert n % p == 0 and n >= max(roi[axis], high - low)
    # Not more than a quarter of the roi larger than it need be.
    least = -(-roi[axis] // p)
    assert n <= (-(-max(roi[axis], high - low) // p) + -(-least // 4)) * p
    assert offset[axis] <= low and high <= offset[axis] + n
    if n <= have[axis]:
      assert 0 <= offset[axis] <= have[axis] - n
    else:
      assert have[axis] - n <= offset[axis] <= 0
    centred = (low + high) // 2 - n // 2
    if min(0, have[axis] - n) <= centred <= max(0, have[axis] - n):
      assert offset[axis] == centred


@pytest.mark.parametrize("settings, reason", [
    ({"kind": "single"}, "wants a prompt set of kind 'pair'"),
    ({"combine": "best"}, "combines by 'mean'"),
    ({"options": {"roi": [1, 2]}}, "'roi' of organs is"),
    ({"tasks": {"X": dataclasses.replace(TASKS["Big"], organ="liver")}},
     "Task 'X' of organs is about the organ 'liver'; the data set has lung")])
def test_questions_that_cannot_be_asked_are_refused(settings, reason):
  with pytest.raises(UserError, match=reason):
    organ_zeroshot.Evaluator(context(**settings))


@pytest.mark.parametrize("name, organs, labels", [
    ("fvlm_ct_rate", grouping.grouping("ct_rate").names, ct_rate.FINDINGS),
    ("phantom_chest_organs", chest_organs.GROUPING.names,
     chest_report.findings())])
def test_prompt_sets_ask_organs_and_columns_that_there_are(
    name, organs, labels):
  spec = prompts.load(name)
  assert spec.evaluator == "organ_zeroshot" and spec.kind == "pair"
  for task in spec.tasks.values():
    assert task.organ in organs and task.label in labels
    (yes,), (no,) = task.prompts, task.negatives
    assert no.lower() == f"not {yes.lower()}"


def test_ct_rate_asks_what_the_paper_asks():
  spec = prompts.load("fvlm_ct_rate")
  organs = [task.organ for task in spec.tasks.values()]
  assert [organs.count(o) for o in ("lung", "heart", "esophagus", "aorta")] == [
      11, 3, 1, 1]
  assert {t.label for t in spec.tasks.values()} == set(ct_rate.FINDINGS)
  assert spec.tasks["Atelectasis"].prompts == ("Atelectatic.",)
  grid = np.linspace(-1, 1, spec.threshold_points)
  assert np.allclose(grid[99:], np.linspace(0, 1, 100))


def test_a_task_names_its_organ_and_only_here(tmp_path):
  path = tmp_path / "a.json"
  raw = {"description": "d", "source": "s", "version": "1", "kind": "pair",
         "evaluator": "organ_zeroshot",
         "tasks": {"a": {"label": "A", "prompts": ["x"], "negatives": ["y"]}}}
  path.write_text(json.dumps(raw))
  with pytest.raises(UserError, match="'tasks/a/organ' is missing"):
    prompts.load(str(path))
  raw["tasks"]["a"]["organ"] = "lung"
  path.write_text(json.dumps(raw))
  assert prompts.load(str(path)).tasks["a"].organ == "lung"
  path.write_text(json.dumps(raw | {"evaluator": "zeroshot_auc"}))
  with pytest.raises(UserError, match="'tasks/a/organ' is unknown"):
    prompts.load(str(path))


@pytest.fixture(name="model", scope="module")
def _model():
  config = tiny.config(
      vision=dict(tower="vit3d", patch=PATCH, volume_shape=SHAPE, depth=2,
                  levels=(0,), series_embedding="none", slice_blocks=(),
                  study_blocks=()),
      joint=dict(organs=3, organ_heads=2), data=dict(max_series=1))
  model = tiny.model(config)
  params = model.init(jax.random.key(0), tiny.init_example(config) | {
      "organ_mask": jnp.zeros((1, *SHAPE), jnp.uint8)})["params"]
  return embed.Encoder(model, (128.0, 256.0), "float32"), params


def _scorer(model, devices: int) -> scoring.Scorer:
  encoder, params = model
  mesh = make_mesh(devices, 1, jax.devices()[:devices])
  return scoring.Scorer(encoder, params, None, mesh, grid=(2, 2, 2), quiet=True)


def test_the_model_sees_an_organ_s_tokens_in_windows_of_any_size(model):
  rng = np.random.default_rng(0)
  for shape in (SHAPE, (6, 12, 8)):
    volume = rng.integers(0, 256, (8, 1, *shape), dtype=np.uint8)
    mask = np.zeros((8, *shape), np.uint8)
    mask[:, 1, 1:3, 1:3], mask[:, 3, 6, 6] = 1, 3
    one = _scorer(model, 1).organs(volume, mask)
    np.testing.assert_allclose(_scorer(model, 8).organs(volume, mask), one,
                               rtol=1e-4, atol=1e-5)   # float32, other blocks
    np.testing.assert_allclose(np.linalg.norm(one, axis=-1),
                               [[1, 0, 1]] * 8, rtol=1e-5)
    moved = mask.copy()
    moved[:, 3, 6, 6], moved[:, 0, 6, 6] = 0, 3        # another token
    two = _scorer(model, 1).organs(volume, moved)
    np.testing.assert_allclose(two[:, 0], one[:, 0], rtol=1e-4, atol=1e-5)
    assert np.abs(two[:, 2] - one[:, 2]).max() > 1e-5


def test_a_model_without_organs_says_so(model):
  encoder, params = model
  joint = dataclasses.replace(encoder.model.config.joint, organs=0)
  config = dataclasses.replace(encoder.model.config, joint=joint)
  blind = dataclasses.replace(encoder, model=tiny.model(config))
  with pytest.raises(UserError, match="looks at no organs"):
    _scorer((blind, params), 1).organs(
        np.zeros((1, 1, *SHAPE), np.uint8), np.zeros((1, *SHAPE), np.uint8))

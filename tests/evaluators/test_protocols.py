"""Every protocol by its name in a config, from a data set to results.json.

The studies are phantoms and the parameters random; what is tested is that each
protocol runs, and that its numbers are those of a second, plain computation.
"""

import csv
import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from sklearn import metrics as sk

from configs import remote_sensing
from data_pipelines import datasets, prepare
from itemclip_jax import evaluators
from itemclip_jax.config import schema, variants
from itemclip_jax.evaluators import measures, predictions, prompts
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.train import evaluate
from tests import tiny

BENCHMARKS = tuple(
    n for n in prompts.names()
    if prompts.load(n).evaluator in ("zeroshot_auc", "classify")
    and n != "prospective_example")
OTHERS = ("prospective_example", "zeroshot_auc", "segmentation", "brats",
          "retrieval", "item_retrieval", "region_text", "series_ranking",
          "linear_probe", "embedding_quality", "item_overlap")
PICTURES = ("zeroshot_auc", "segmentation", "retrieval", "item_overlap",
            "embedding_quality", "linear_probe")


def columns_of(names) -> list[list[str]]:
  """The label columns of prompt sets; those of one classification together."""
  groups = {}
  for name in names:
    spec = prompts.load(name)
    own = [c["label"] for c in spec.options.get("classes", {}).values()]
    for column in [t.label for t in spec.tasks.values()]:
      groups.setdefault((column,), [column])
    groups.setdefault(tuple(own), own)
  return [g for g in groups.values() if g]


@pytest.fixture(name="benchmarks", scope="module")
def _benchmarks(tiny_set, tmp_path_factory):
  """Phantoms with random labels under the names of every benchmark."""
  source = tmp_path_factory.mktemp("source")
  rng, groups = np.random.default_rng(0), columns_of(BENCHMARKS)
  columns = list(dict.fromkeys(c for g in groups for c in g))
  for split in ("train", "test"):
    (source / split).symlink_to(tiny_set / "raw" / split)
    reports = json.loads((tiny_set / "raw" / f"{split}.json").read_text())
    for number, (study, entry) in enumerate(reports.items()):
      labels = dict.fromkeys(columns, 0)
      for group in groups:
        labels |= dict.fromkeys(group, 0)
        if len(group) == 1:
          labels[group[0]] = int(rng.integers(-1, 2)) if number % 3 else (
              number % 2)
        else:
          labels[group[number % len(group)]] = 1
      reports[study] = {"series": entry["series"], "report": entry["report"],
                        "subid": f"{split}-{number // 2}", "labels": labels}
    (source / f"{split}.json").write_text(json.dumps(reports))
  (source / "findings.json").write_text(json.dumps(
      {c: {"prompts": [c], "label": c} for c in columns}))
  out = tmp_path_factory.mktemp("benchmarks") / "set"
  prepare.build(datasets.make("studies", source=str(source), keep_ids=True,
                              intensity="median", resize=(24, 56, 56),
                              shape=(24, 48, 48)), out, num_workers=1)
  (out / "ground_truth.json").write_text(json.dumps(
      {name: [3] for name in list(reports)[:-1]}))  # of the test split
  return out


@pytest.fixture(name="scenes", scope="module")
def _scenes(tmp_path_factory):
  out = tmp_path_factory.mktemp("scenes")
  prepare.build(datasets.make("digit_scenes", num_train=24, num_valid=0,
                              num_test=12), out, num_workers=1)
  return out


@pytest.fixture(name="measured", scope="module")
def _measured(tmp_path_factory):
  """Evaluates a released model of random parameters; returns its folder."""
  mesh = make_mesh(1, 1, jax.devices()[:1])

  def measured(config: schema.Config) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("measured")
    chosen = dataclasses.replace(config, eval=dataclasses.replace(
        config.eval, model=str(tiny.released(config, folder)), bootstrap=20))
    evaluate.evaluate(chosen, mesh, folder / "run")
    return folder / "run"

  return measured


def _config(root, names, **changes) -> schema.Config:
  return tiny.config(
      root, vision={"patch": (6, 12, 12)},
      eval={"evaluators": names, "untrained": False, "min_positives": 1,
            "batch": 4} | changes)


@pytest.fixture(name="benchmark_run", scope="module")
def _benchmark_run(benchmarks, measured):
  return measured(_config(benchmarks, BENCHMARKS, threshold_split="train"))


@pytest.fixture(name="brain_run", scope="module")
def _brain_run(tiny_set, measured):
  return measured(_config(tiny_set, OTHERS))


def _results(run) -> dict:
  return json.loads((run / "results.json").read_text())


def _table(run, name) -> list[dict[str, str]]:
  with open(run / "predictions" / f"{name}.csv", newline="",
            encoding="utf-8") as file:
    return list(csv.DictReader(file))


def _numbers(results, name) -> dict[str, dict]:
  return {k: v for k, v in results.items() if k.startswith(f"{name}/")}


def test_every_evaluator_and_prompt_set_is_tried_here():
  modules = {prompts.load(n).evaluator for n in prompts.names()}
  with_organs = {n for n in prompts.names()     # test_organ_zeroshot.py
                 if prompts.load(n).evaluator == "organ_zeroshot"}
  assert set(prompts.names()) <= {*BENCHMARKS, *OTHERS, "brats", *with_organs}
  for name in (*modules, *OTHERS):
    assert evaluators.find(name)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs(benchmark_run, name):
  results = _results(benchmark_run)
  numbers = _numbers(results, name)
  about = results["about"]["evaluators"][name]
  assert about["prompt_set"]["sha256"] == prompts.load(name).sha256
  heads = [r["value"] for k, r in numbers.items()
           if k.endswith(("/mean_tcsim", "/mean_balanced_accuracy", "/top1"))]
  assert heads and None not in heads
  for r in numbers.values():
    assert r["value"] is None or r["ci95"] is None or (
        r["ci95"][0] <= r["ci95"][1])


@pytest.mark.parametrize("name", [
    n for n in BENCHMARKS if prompts.load(n).evaluator == "zeroshot_auc"])
def test_aucs_are_those_of_a_second_computation(benchmark_run, name):
  results, rows = _results(benchmark_run), _table(benchmark_run, name)
  aucs = []
  for task in prompts.load(name).tasks:
    known = [r for r in rows if r[f"label/{task}"] != "-1"]
    truth = [int(r[f"label/{task}"]) for r in known]
    entry = results[f"{name}/tcsim/{task}"]
    assert entry.get("unlabeled", 0) == len(rows) - len(known)
    assert entry["n"] == sum(truth)
    aucs.append(sk.roc_auc_score(
        truth, [float(r[f"tcsim/{task}"]) for r in known]))
    assert entry["value"] == pytest.approx(aucs[-1], abs=1e-9)
  assert results[f"{name}/mean_tcsim"]["value"] == pytest.approx(
      np.mean(aucs), abs=1e-9)


def test_both_thresholds_stand_side_by_side(benchmark_run):
  names = _numbers(_results(benchmark_run), "ct_rate").keys()
  for metric in ("accuracy", "balanced_accuracy", "f1_weighted"):
    assert f"ct_rate/mean_{metric}@test" in names
    assert f"ct_rate/mean_{metric}@valid" in names


def test_ground_truth_is_a_subset(benchmark_run):
  whole = _table(benchmark_run, "pub_brain_5")
  part = _table(benchmark_run, "pub_brain_5_gt")
  assert {r["study_id"] for r in part} < {r["study_id"] for r in whole}


@pytest.mark.parametrize("name", OTHERS)
def test_a_protocol_runs_on_phantoms(brain_run, name):
  results = _results(brain_run)
  prefixes = {"segmentation": ("segmentation/", "pointing/")}.get(
      name, (f"{name}/",))
  numbers = {k: v for k, v in results.items() if k.startswith(prefixes)}
  assert any(v["value"] is not None for v in numbers.values()), numbers
  assert _table(brain_run, name)


def test_predictions_give_the_same_results_again(brain_run, benchmark_run):
  """What stands in the files is all that the numbers rest on."""
  for run in (brain_run, benchmark_run):
    results = _results(run)
    for name, about in results["about"]["evaluators"].items():
      table = predictions.read(run / "predictions" / f"{name}.csv")
      again = measures.results(
          evaluators.module(about["module"]).measure(
              name, table, about["meta"]), table, num_resamples=20,
          seed=results["about"]["config"]["seed"])
      for key, result in again.items():
        want = results[key]["value"]
        got = result.to_json()["value"]
        assert (got is None) == (want is None), key
        assert got is None or got == pytest.approx(want, abs=1e-9), key


def test_pictures_are_measured_alike(scenes, measured):
  raw = remote_sensing.get_config("smoke")
  variants.shrink(raw)
  raw.data.update(root=str(scenes), num_threads=2)
  raw.text.vocab_size = 512
  raw.eval.update(evaluators=PICTURES, min_positives=1, batch=4)
  run = measured(schema.from_config_dict(raw))
  results = _results(run)
  for key in ("zeroshot_auc/mean_tcsim", "pointing/top1",
              "retrieval/text_to_image/r@1", "retrieval/image_to_text/r@5",
              "item_overlap/mll"):
    assert results[key]["value"] is not None, key
  assert list((run / "figures").glob("attention_*.npz"))


@pytest.mark.parametrize("vision, joint, drawn", [
    ({}, {"pooling": "similarity"}, True), ({"mixture_tokens": 5}, {}, False)])
def test_models_of_other_systems_answer_as_well(scenes, measured, vision,
                                                joint, drawn):
  """One text an image, and no item attention, or one over mixture tokens."""
  raw = remote_sensing.get_config("smoke")
  variants.shrink(raw)
  raw.data.update(root=str(scenes), num_threads=2)
  raw.vision.update(vision)
  raw.joint.update(joint)
  raw.text.update(vocab_size=512, form="report", max_items=1,
                  diverse_max_merge=0)
  raw.eval.update(evaluators=("zeroshot_auc", "item_overlap"), batch=4,
                  min_positives=1)
  run = measured(schema.from_config_dict(raw))
  results = _results(run)
  # All items are looked at, not one for the one text of training.
  assert results["item_overlap/mams"]["value"] is not None
  assert results["zeroshot_auc/mean_tcsim"]["value"] is not None
  assert bool(list((run / "figures").glob("attention_*.npz"))) == drawn


def test_an_evaluator_that_the_set_cannot_serve_is_told(benchmarks, measured):
  with pytest.raises(ValueError, match=(
      "segmentation needs lesion_mask.* leave it out of config.eval")):
    measured(_config(benchmarks, ("segmentation",)))


def test_an_unknown_name_is_told(tiny_set, tmp_path):
  with pytest.raises(ValueError, match="ct_rats?"):
    evaluate.evaluate(_config(tiny_set, ("ct_rats",)), None, tmp_path)

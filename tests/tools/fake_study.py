"""A study whose runs are made up: definition, runner, and how to run it."""

import json
import pathlib

import numpy as np

from itemclip_jax.evaluators import item_overlap, measures, predictions
from itemclip_jax.tools import study as tool
from itemclip_jax.tools.comparison import definition, work
from itemclip_jax.train.writer import write_json

N = 60
MLL = "item_overlap/mll"

DEFINITION = '''
from itemclip_jax.config import comparison, schema

def get_study():
  number = lambda title, name, **more: comparison.Number(
      title=title, result="item_overlap/" + name, **more)
  return comparison.Study(
      place=1, title="A fake study", question="Which is better?",
      effort="none.",
      parts={"only": comparison.Part(
          dataset="phantom_brain", options={"num_train": 16},
          base=schema.defaults,
          numbers=(number("worst item", "mll"),
                   number("overlap", "mams", better="lower")),
          published=(comparison.Published(
              title="MLL x 100", source="Somebody 2025, Table 1",
              beside="worst item", values={"plain": 40.0, "better": 30.5}),))},
      rows={"plain": comparison.Row(title="Plain"),
            "better": comparison.Row(
                title="Better", against="plain",
                changes={"loss.iis_weight": 0.5}),
            "longer": comparison.Row(
                title="Longer", against="plain", start="plain", share=0.5)},
      budgets={"small": comparison.Budget(steps=10, seeds=(0,)),
               "full": comparison.Budget(steps=40, seeds=(0, 1))})
'''

# What a row is worth, and a seed.
WORTH = {"plain": 0.30, "better": 0.34, "longer": 0.31}


def said(row: str, seed: int, num: int = N) -> predictions.Table:
  """Two studies a patient; easy and hard ones are the same for all rows."""
  ease = np.random.default_rng(0).normal(size=num)
  own = np.random.default_rng([seed, len(row)]).normal(size=num)
  score = WORTH[row] + 0.01 * seed + 0.1 * ease + 0.01 * own
  return {"study_id": np.array([f"s{i}" for i in range(num)]),
          "patient_id": np.array([f"p{i // 2}" for i in range(num)]),
          "item": np.array(["an item"] * num),
          "mams": np.full(num, 0.5), "mll": score, "own_tcsim": score + 0.1}


class Runner:
  """A runner that leaves what the real processes would."""

  def __init__(self, failing: str = ""):
    self.did, self._failing = [], failing

  def __call__(self, command, log, tick, lock):
    flags = dict(c[2:].split("=", 1) for c in command if c.startswith("--"))
    if command[2] == "data_pipelines.prepare":
      self.did.append(f"prepare {flags['dataset']} {flags['num_train']}")
      return
    path = pathlib.Path(flags["workdir"])
    row, seed = flags["config"].split(":")[1], int(flags["config.seed"])
    self.did.append(f"{flags['mode']} {row} {seed}")
    if f"{flags['mode']} {row}" == self._failing:
      raise work.RunFailed(f"code 1; see {log}")
    if flags["mode"] == "train":
      self._train(path, row, int(flags["config.train.steps"]), flags)
    else:
      _evaluate(path, row, seed)
    tick()

  def _train(self, path, row, steps, flags):
    path.mkdir(parents=True, exist_ok=True)
    config = definition.load(
        pathlib.Path(flags["config"].split(":")[0]).parent, "fake").config(row)
    config.train.steps = steps
    config.seed = int(flags["config.seed"])
    config.data.root = flags["config.data.root"]
    write_json(path / "config.json", config.to_dict())
    if start := flags.get("config.train.start_from"):
      assert (pathlib.Path(start) / "final.json").exists()
    write_json(path / "final.json", {"step": steps, "params_sha256": row})


def _evaluate(path, row, seed):
  table = said(row, seed)
  found = measures.results(item_overlap.measure("item_overlap", table, {}),
                           table, num_resamples=20, seed=seed)
  predictions.write(path / "predictions" / "item_overlap.csv", table)
  final = json.loads((path / "final.json").read_text())
  write_json(path / "results.json", {
      **{k: v.to_json() for k, v in found.items()},
      "about": {
          "software": "itemclip_jax 0", "checkpoint": final,
          "data": {"dataset": "phantom_brain", "split": "test", "studies": N,
                   "sha256": "d", "root": "private/folder"},
          "config": json.loads((path / "config.json").read_text()),
          "evaluators": {"item_overlap": {
              "module": "item_overlap", "meta": {}, "prompt_set": None}}}})


def run(fake, runner, *, budget="small", parallel=1, **kwargs) -> list[str]:
  """`study.run_all` on the definition of `make`."""
  study = definition.load(fake / "configs", "fake")
  jobs = tool.jobs_of(study, fake / "configs" / "fake.py", budget=budget,
                      work_dir=fake / "work", **kwargs)
  return tool.run_all(jobs, fake / "docs" / "study", runner, parallel=parallel)


def publish(fake) -> str:
  """The text of the page."""
  return tool.publish(definition.load_all(fake / "configs"),
                      fake / "docs" / "study").read_text()


def rows_below(text: str, head: str) -> dict[str, list[str]]:
  """First cell -> cells of the first table after a line."""
  lines = text.split(head, 1)[1].strip().splitlines()
  cells = [[c.strip() for c in line.strip("|").split("|")]
           for line in lines[:lines.index("")] if line.startswith("|")]
  return {row[0]: row[1:] for row in cells}


def make(folder: pathlib.Path) -> pathlib.Path:
  """Puts the definition into `folder`/configs; returns `folder`."""
  (folder / "configs").mkdir()
  (folder / "configs" / "fake.py").write_text(DEFINITION)
  return folder

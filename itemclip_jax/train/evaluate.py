"""`--mode=eval`: measures a model by the evaluators of the config.

Leaves in the work directory

    results.json       {"<evaluator>/<metric>": {"value", "ci95", "n"}, ...}
                       and, under "about", what was measured of what, by what
    predictions/       <evaluator>.csv: what the model did, one row a study,
                       finding or query; results.json follows from it
    figures/           an .npz of arrays for every picture of the report
    features/          the encoded studies (`evaluators.features`); may be
                       deleted, the next evaluation then encodes again
"""

import dataclasses
import pathlib
import shutil
from types import ModuleType
from typing import Any

import jax
import numpy as np
import tqdm

import itemclip_jax
from itemclip_jax import evaluators
from itemclip_jax.config import schema
from itemclip_jax.data import example as example_lib
from itemclip_jax.data import record
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import features, measures, predictions, scoring
from itemclip_jax.evaluators.context import Context, Example, Table
from itemclip_jax.evaluators.prompts import PromptSet
from itemclip_jax.interop import model_shapes
from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.parallel import multihost, sharding
from itemclip_jax.train import loop, settings, setup
from itemclip_jax.train import trained as trained_lib
from itemclip_jax.train.checkpoint import Checkpoints
from itemclip_jax.train.writer import write_json

# Where a number of the untrained model stands; else under "<number>_untrained".
_UNTRAINED = (("/mean_tcsim", "/mean_untrained"), ("/tcsim/", "/untrained/"),
              ("pointing/top1", "pointing/untrained"))


@dataclasses.dataclass(frozen=True)
class Measured:
  """One evaluator's answer about one model."""
  module: ModuleType
  spec: PromptSet | None
  table: Table
  meta: dict[str, Any]
  examples: list[Example]
  results: dict[str, measures.Result]

  def about(self) -> dict[str, Any]:
    """What `tools.compare` must know to measure the table again."""
    spec = self.spec
    return {"module": self.module.__name__.rsplit(".", 1)[-1],
            "prompt_set": None if spec is None else {
                "name": spec.name, "version": spec.version,
                "sha256": spec.sha256},
            "meta": self.meta}


def evaluate(config: schema.Config, mesh, workdir: pathlib.Path) -> dict:
  """Runs config.eval.evaluators on the test split; returns results.json.

  Raises:
    UserError: there is no model, it was trained on volumes prepared
      differently, or an evaluator cannot do with the data set.
  """
  chosen = _named([evaluators.find(n) for n in config.eval.evaluators])
  if config.eval.batch % mesh.size:
    raise UserError(f"eval.batch={config.eval.batch} is not a multiple of the "
                    f"{mesh.size} devices; change it.")
  model = _model(config, mesh, workdir)
  # The model is the checkpoint's; what it is measured by and on is ours.
  config = dataclasses.replace(model.config, seed=config.seed, data=config.data,
                               eval=config.eval)
  _require_fit(config, model)
  folder = workdir / "features"
  ours = _Subject(config, model, model.params, folder, "trained model")
  measured = ours.measure(chosen)
  results = {k: r for m in measured.values() for k, r in m.results.items()}
  digests = {ours.digest}
  if config.eval.untrained:
    base = _Subject(config, model, _initial(config, mesh), folder,
                    "untrained model")
    results |= {_untrained(k): r for m in base.measure(chosen).values()
                for k, r in m.results.items() if "chance" not in k}
    digests.add(base.digest)
  report = {k: r.to_json() for k, r in results.items()}
  report["about"] = _about(config, model, ours, measured)
  examples = ours.drawn([x for m in measured.values() for x in m.examples])
  if multihost.is_main():
    _save_figures(workdir / "figures", examples)
    shutil.rmtree(workdir / "predictions", ignore_errors=True)
    for name, m in measured.items():
      predictions.write(workdir / "predictions" / f"{name}.csv", m.table)
    write_json(workdir / "results.json", report)
    for other in set(p.name for p in folder.iterdir()) - digests:
      shutil.rmtree(folder / other)   # of another checkpoint
    print(f"Step {model.step}, {len(ours.studies)} studies of split "
          f"{config.data.test_split!r}:")
    _print_means(results)
  return report


class _Subject:
  """One set of parameters that is measured."""

  def __init__(self, config: schema.Config, model: trained_lib.Trained, params,
               folder: pathlib.Path, what: str):
    self._config, self._model, self._params = config, model, params
    self._what = what
    self.params_sha256 = loop.digest(params)
    self.digest = self.params_sha256[:16]
    self._folder = folder / self.digest
    self._make_example = example_lib.MakeExample(
        config, model.tokenizer, air=model.contract.air)
    self._splits: dict[str, features.Studies] = {}
    self.scorer = scoring.Scorer(
        model.encoder, params, model.tokenizer, model.mesh,
        grid=config.vision.grid)

  @property
  def studies(self) -> features.Studies:
    """The test split."""
    return self.split(self._config.data.test_split)

  def split(self, name: str) -> features.Studies:
    """A split, encoded when it is first asked for."""
    if name not in self._splits:
      model = self._model
      with jax.set_mesh(model.mesh):
        self._splits[name] = features.encode(
            name, self._make_example, model.encoder, self._params, model.mesh,
            folder=self._folder, batch=self._config.eval.batch,
            what=f"{self._what}, split {name}")
    return self._splits[name]

  def measure(self, chosen: dict) -> dict[str, Measured]:
    """The answer of every evaluator, by name."""
    example = self.studies.example(0)
    running = {}
    for name, (module, spec) in chosen.items():
      _require_keys(name, module.Evaluator.REQUIRES, example, self._config)
      running[name] = module.Evaluator(Context(
          self._config, name, spec, self.scorer, self.studies, self.split))
    self.scorer.prefetch(self.studies, [
        p for e in running.values() for p in e.prompts])
    out = {}
    for name, evaluator in running.items():
      table, meta = evaluator.collect(), evaluator.meta()
      module, spec = chosen[name]
      results = measures.results(
          module.measure(name, table, meta), table,
          num_resamples=self._config.eval.bootstrap, seed=self._config.seed)
      out[name] = Measured(module, spec, table, meta,
                           evaluator.examples(table), results)
    return out

  def drawn(self, examples: list[Example]) -> list[dict[str, Any]]:
    """The arrays of every picture, in the order of the examples."""
    if self._config.vision.mixture_tokens:   # what they see has no place
      return []
    asked = {}
    for x in examples:
      asked.setdefault(x.row, []).append(x.text)
    seen = {(row, text): weights[i]
            for row, weights in self.scorer.attention(self.studies, asked)
            for i, text in enumerate(asked[row])}
    contract, out = self._model.contract, []
    for x in examples:
      shown = self.studies.example(x.row)
      out.append(x.arrays() | {
          "attention": seen[x.row, x.text], "volume": shown["volume"],
          "series_names": shown["names"], "affine": shown["affine"],
          "patch": self._config.vision.patch,
          "study_id": self.studies.study_id[x.row]})
      if contract.window:     # grey levels of a CT
        centre, width = contract.window
        out[-1]["limits"] = centre - width / 2, centre + width / 2
    return out


def _named(found: list) -> dict[str, tuple[ModuleType, PromptSet | None]]:
  """Evaluators by the name that their numbers begin with."""
  out = {}
  for module, spec in found:
    name = spec.name if spec else module.__name__.rsplit(".", 1)[-1]
    if name in out:
      raise UserError(f"config.eval.evaluators names {name!r} twice; rename a "
                      "file of tasks, or leave one out.")
    out[name] = module, spec
  if not out:
    raise UserError("config.eval.evaluators is empty; name one, such as "
                    "zeroshot_auc.")
  return out


def _model(config: schema.Config, mesh, workdir: pathlib.Path
           ) -> trained_lib.Trained:
  """The model of eval.model, or the checkpoint that eval.checkpoint names."""
  if config.eval.model:
    return trained_lib.load(pathlib.Path(config.eval.model), mesh)
  which = config.eval.checkpoint
  with Checkpoints(workdir, metric=config.train.best_metric,
                   read_only=True) as checkpoints:
    step = checkpoints.latest() if which == "latest" else checkpoints.best()
  if step is None:
    raise UserError(
        f"There is no {which} checkpoint in {workdir}; train first, with "
        "--mode=train" + (", or name a model with --config.eval.model."
                          if which == "latest" else
                          " and a validation split."))
  model = trained_lib.load(workdir, mesh, step)
  if different := settings.of_another_model(
      dataclasses.asdict(model.config), config):
    raise UserError(f"The checkpoint of step {step} in {workdir} is of another "
                    f"model: {'; '.join(different)}. Use the config that it "
                    "was trained with.")
  return model


def _require_fit(config: schema.Config, model: trained_lib.Trained):
  """Raises unless the data set is prepared as the model's was."""
  if not config.data.root:
    raise UserError("data.root is empty; set --config.data.root to the folder "
                    "that data_pipelines.prepare made.")
  contract = record.read_contract(config.data.root)
  where = config.eval.model or "the checkpoint"
  contract.require_same(model.contract, here=config.data.root, there=where)
  setup.require_shape(config, contract, f"The data set in {config.data.root}")


def _require_keys(name: str, wanted, example: dict, config: schema.Config):
  """Raises unless the data set holds what an evaluator cannot do without."""
  missing = [k for k in wanted if k not in example or not np.size(example[k])]
  if missing:
    raise UserError(
        f"The evaluator {name} needs {', '.join(missing)}, which the data set "
        f"in {config.data.root} does not hold"
        + (" (no findings.json beside its raw reports)" if "labels" in missing
           else "") + "; leave it out of config.eval.evaluators.")


def _initial(config: schema.Config, mesh):
  """Parameters before the first step, those of `train` with this seed."""
  model = DualEncoder(config)
  make = lambda: model.init({"params": jax.random.key(config.seed)},
                            model_shapes.zeros(config))["params"]
  layout = sharding.tree_shardings(jax.eval_shape(make), mesh)
  with jax.set_mesh(mesh):
    return jax.jit(make, out_shardings=layout)()


def _about(config: schema.Config, model: trained_lib.Trained, ours: _Subject,
           measured: dict[str, Measured]) -> dict[str, Any]:
  """What the numbers are of, so that two files can be told apart."""
  return {
      "software": f"itemclip_jax {itemclip_jax.__version__}",
      "checkpoint": {
          "folder": config.eval.model or "the work directory",
          "step": model.step, "params_sha256": ours.params_sha256,
          "logit_scale": ours.scorer.logit_scale,
          "logit_bias": ours.scorer.logit_bias},
      "data": {
          "root": config.data.root, "dataset": config.data.dataset,
          "split": config.data.test_split, "studies": len(ours.studies),
          "sha256": ours.studies.sha256},
      "evaluators": {name: m.about() for name, m in measured.items()},
      "config": dataclasses.asdict(config)}


def _untrained(name: str) -> str:
  """What a number of the untrained model is called."""
  for old, new in _UNTRAINED:
    if old in name:
      return name.replace(old, new)
  return f"{name}_untrained"


def _save_figures(folder: pathlib.Path, examples: list[dict[str, Any]]):
  folder.mkdir(parents=True, exist_ok=True)
  for old in folder.glob("attention_*"):
    old.unlink()
  for i, arrays in enumerate(tqdm.tqdm(examples, desc="figures", leave=False)):
    np.savez_compressed(folder / f"attention_{i:02d}.npz", **arrays)


def _print_means(results: dict[str, measures.Result]):
  for name, r in results.items():
    if name.count("/") > 1:
      continue
    interval = "" if r.ci95 is None else (
        f"  (95 % interval {r.ci95[0]:.3f} to {r.ci95[1]:.3f})")
    print(f"{name:40s} {r.value:.3f}{interval}  n={r.n}")

"""`--mode=eval`: measures the newest checkpoint, beside the untrained model.

Leaves `results.json` and, for every picture of the report, an .npz of arrays
under `figures/`.
"""

import dataclasses
import pathlib

import jax
import numpy as np
import tqdm

from itemclip_jax import evaluators
from itemclip_jax.config import schema
from itemclip_jax.data import loader, record
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import embed
from itemclip_jax.evaluators.context import Context, Result
from itemclip_jax.parallel import multihost
from itemclip_jax.train import setup
from itemclip_jax.train.checkpoint import Checkpoints
from itemclip_jax.train.writer import write_json

# Numbers of the untrained model that stand beside the trained one's.
_UNTRAINED = {"zeroshot_auc/mean_tcsim": "zeroshot_auc/mean_untrained",
              "pointing/top1": "pointing/untrained",
              "segmentation/iou": "segmentation/iou_untrained"}

# What the device needs of a batch.
_INPUTS = ("volume", "series_mask", "series_names")


def evaluate(config: schema.Config, mesh, workdir: pathlib.Path) -> dict:
  """Runs config.eval.evaluators on the test split; returns results.json.

  Raises:
    UserError: there is no checkpoint, or it was trained on volumes prepared
      differently.
  """
  run = setup.make_run(config, mesh, workdir, training=False)
  step, trained = _trained(run)
  split = record.open_split(config.data.root, config.data.test_split)
  if not split.findings:
    raise UserError(f"The data set in {config.data.root} names no findings; "
                    "put a findings.json beside the raw reports and build it "
                    "again.")
  encoder = embed.Encoder(run.model, run.window, run.dtype)
  with jax.set_mesh(mesh):
    ours = _measure(run, split, encoder, trained, "trained model")
    base = _measure(run, split, encoder, run.init().params, "untrained model")
  results = {name: r for e in ours for name, r in e.results()}
  for name, result in (pair for e in base for pair in e.results()):
    if name in _UNTRAINED:
      results[_UNTRAINED[name]] = result
    elif name.startswith("zeroshot_auc/tcsim/"):
      results[name.replace("/tcsim/", "/untrained/")] = result
  report = {k: dataclasses.asdict(v) for k, v in results.items()}
  if multihost.is_main():
    examples = [x for e in ours for x in e.examples()]
    _save_examples(workdir / "figures", examples, split, run)
    write_json(workdir / "results.json", report)
    print(f"Step {step}, {len(split.source)} studies of split "
          f"{config.data.test_split!r}:")
    _print_means(results)
  return report


def _trained(run: setup.Run):
  """Step and parameters of the checkpoint that eval.checkpoint names."""
  which = run.config.eval.checkpoint
  with Checkpoints(run.workdir, metric=run.config.train.best_metric,
                   read_only=True) as checkpoints:
    step = checkpoints.latest() if which == "latest" else checkpoints.best()
    if step is None:
      raise UserError(
          f"There is no {which} checkpoint in {run.workdir}; train first, with "
          "--mode=train" + ("." if which == "latest" else
                            " and a validation split."))
    setup.require_fit(run, checkpoints.meta(step), step)
    return step, checkpoints.restore_params(
        step, run.abstract_state().params, run.mesh)


def _measure(run: setup.Run, split, encoder, params, what: str) -> list:
  """Shows every evaluator the whole split once, on every process."""
  ids, owner = embed.prompt_ids(run.make_example.tokenize, split.findings)
  context = Context(
      config=run.config, encoder=encoder, texts=encoder.texts(params, ids),
      owner=owner, findings=tuple(split.findings),
      prompts=tuple(f["prompts"][0] for f in split.findings.values()))
  running = [evaluators.make(name, context)
             for name in run.config.eval.evaluators]
  wanted = {"record", "example_mask"}.union(*(e.REQUIRES for e in running))
  batch_size = run.config.eval.batch
  batches = loader.eval_batches(
      split, run.make_example, batch=batch_size, process=jax.process_index(),
      num_processes=jax.process_count())
  for batch in tqdm.tqdm(batches, desc=f"eval, {what}", unit="batch",
                         total=-(-len(split.source) // batch_size),
                         disable=not multihost.is_main()):
    for evaluator in running:
      setup.require_keys(evaluator, batch, run.config)
    inputs = multihost.to_global({k: batch[k] for k in _INPUTS}, run.mesh)
    encoded = encoder.studies(params, *(inputs[k] for k in _INPUTS))
    scores = multihost.to_host(encoder.scores(params, encoded, context.texts))
    batch = multihost.gather({k: batch[k] for k in sorted(wanted)}, run.mesh)
    batch["patient_id"] = split.index["patient_id"][batch["record"]]
    batch["study_id"] = split.index["study_id"][batch["record"]]
    for evaluator in running:
      evaluator.update(batch, encoded, scores)
  return running


def _save_examples(folder: pathlib.Path, examples: list[dict], split, run):
  """Adds what a picture shows beside the attention; writes a file each."""
  folder.mkdir(parents=True, exist_ok=True)
  for old in folder.glob("attention_*"):
    old.unlink()
  for i, example in enumerate(examples):
    shown = run.make_example(split.study(example.pop("record")),
                             len(example["attention"]))
    np.savez_compressed(
        folder / f"attention_{i:02d}.npz", patch=run.config.vision.patch,
        volume=shown["volume"], series_names=shown["names"],
        affine=shown["affine"], **example)


def _print_means(results: dict[str, Result]):
  for name, r in results.items():
    if name.count("/") > 1:
      continue
    interval = "" if r.ci95 is None else (
        f"  (95 % interval {r.ci95[0]:.3f} to {r.ci95[1]:.3f})")
    print(f"{name:32s} {r.value:.3f}{interval}  n={r.n}")

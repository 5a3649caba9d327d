"""Builds a data set: raw scans and reports -> checked ArrayRecord.

The embedded phantom, ready for the demo (about a minute on two cores):

    python -m data_pipelines.prepare --dataset=phantom_brain --out=data/brain

A smaller one, for a first look:

    python -m data_pipelines.prepare --dataset=phantom_brain --out=data/tiny \\
        --num_train=32 --num_valid=8 --num_test=8

The embedded chest CT, radiographs and pictures with captions:

    python -m data_pipelines.prepare --dataset=phantom_chest --out=data/chest
    python -m data_pipelines.prepare --dataset=phantom_radiograph --out=data/xr
    python -m data_pipelines.prepare --dataset=digit_scenes --out=data/scenes

A public archive, as it was downloaded (ct_rate, rad_chest_ct, rsna_ich, cq500,
pub_brain_5, brats, rsicd, itemized_cc, coco_captions, flickr30k):

    python -m data_pipelines.prepare --dataset=ct_rate --source=CT-RATE \\
        --out=data/ct_rate

Your own MRI studies, <source>/<split>/<study>/<series>/img.nii.gz with
<source>/train.json = { "<study>": { "series": {"AX_T2": {}, ...},
"report": ["item", ...], "subid": "<patient>" }, ... } and likewise valid.json
and test.json:

    python -m data_pipelines.prepare --dataset=studies --out=data/mri \\
        --source=mri

Studies and patients of `studies` are told by salted hashes; the salt and the
table of names stand beside the set, in <out>.salt and <out>.ids.jsonl.
--keep_ids keeps the names.

An archive beyond one machine, by Apache Beam on a disk that all machines share:

    python -m data_pipelines.prepare --dataset=studies --out=/nfs/mri \\
        --source=/nfs/raw --runner=FlinkRunner \\
        --runner_options=flink_master=host:8081,parallelism=64

A finished set is used again as it is; an interrupted build goes on when the
same command is given once more, study by study. Studies that cannot be used
are listed with the reason in <out>/ingest.jsonl. Only the options that you name
are passed on; an option that the data set does not have is an error.
"""

import collections
import contextlib
import io
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Sequence

from absl import app
from absl import flags
from absl import logging
import numpy as np
import tensorflow_datasets as tfds
import tqdm

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import options
from data_pipelines import shards
from data_pipelines.files import write_json
from data_pipelines.parallel import LOCAL, Workers
from itemclip_jax.data import record

_DATASET = flags.DEFINE_string(
    "dataset", None, f"What to build: {', '.join(datasets.names())}.")
_OUT = flags.DEFINE_string("out", None, "Folder of the finished data set.")
_WORKERS = flags.DEFINE_integer(
    "workers", os.cpu_count(), "Processes at work; the result is the same for "
    "any number.", lower_bound=1)
_RUNNER = flags.DEFINE_string(
    "runner", LOCAL, "Who reads the raw files: local, or a runner of Apache "
    "Beam such as direct or FlinkRunner; the result is the same for any.")
_RUNNER_OPTIONS = flags.DEFINE_list(
    "runner_options", [], "name=value,... of the Beam runner.")
_COMPRESSION = flags.DEFINE_enum(
    "compression", "none", list(shards.COMPRESSION), "Of the finished records: "
    "none is read three times as fast by one core; zstd takes some 60 % of the "
    "space of a CT and far less of phantoms. The voxels are the same.")


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
  logging.set_verbosity(logging.WARNING)  # TFDS logs every file it opens
  try:
    dataset = datasets.make(_DATASET.value, **options.given())
    build(dataset, pathlib.Path(_OUT.value), num_workers=_WORKERS.value,
          runner=_RUNNER.value, runner_options=_RUNNER_OPTIONS.value,
          compression=_COMPRESSION.value)
  except errors.PrepareError as error:
    print(error, file=sys.stderr)
    sys.exit(2)


def build(dataset, out: pathlib.Path, *, num_workers: int,
          runner: str = LOCAL, runner_options: Sequence[str] = (),
          compression: str = "none"):
  """Builds `dataset` in `out`, or finds that it is there already."""
  if _is_built(dataset, out):
    print(f"{out} is built already; using it.")
    return
  needed = dataset.bytes_needed()
  errors.require_free(out, needed)
  conformed = out.absolute() / "conformed"
  try:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "contract.json", dataset.contract().to_dict(), indent=1)
    with Workers(num_workers, keep=conformed, runner=runner,
                 runner_options=runner_options) as workers:
      raw = dataset.fetch(out, workers)
      write_json(out / "findings.json", dataset.findings(raw), indent=1)
      _write_records(dataset, raw, out, workers, compression)
    shutil.rmtree(conformed, ignore_errors=True)  # all of it is in the shards
    _write_index(out)  # last: its presence says that the set is complete
  except Exception as error:
    if errors.is_disk_full(error):
      raise errors.PrepareError(
          errors.disk_full_sentence(out, needed)) from error
    raise
  _print_summary(out)


def _is_built(dataset, out: pathlib.Path) -> bool:
  """True where the same recipe has been built; another one is an error."""
  if not (out / "contract.json").exists() or not _holds_data(out):
    return False
  try:
    have = record.read_contract(out)
  except ValueError as error:
    raise errors.PrepareError(str(error)) from error
  want = dataset.contract()
  # Through JSON, which turns tuples into lists.
  recipes = [json.loads(json.dumps(c.recipe)) for c in (have, want)]
  if have.dataset != want.dataset or recipes[0] != recipes[1]:
    raise errors.PrepareError(
        f"{out} holds {have.dataset} built with {recipes[0]}, asked for is "
        f"{want.dataset} with {recipes[1]}; name another --out or delete it.")
  return (out / "index.npz").exists()


def _holds_data(out: pathlib.Path) -> bool:
  """False after a try that failed at once, e.g. with a misspelt --source."""
  return any(path.is_file() for path in out.rglob("*")
             if path.name not in ("contract.json", "findings.json",
                                  "organs.json", "ingest.jsonl")
             and "incomplete." not in str(path.relative_to(out)))


def _write_records(dataset, raw, out: pathlib.Path, workers: Workers,
                   compression: str):
  """Runs the TFDS builder; what an interrupted run left of it is deleted."""
  tfds.disable_progress_bar()  # ours knows the totals
  if (out / dataset.contract().records).exists():
    return
  for unfinished in out.glob("*/incomplete.*"):
    shutil.rmtree(unfinished)
  with open(out / "ingest.jsonl", "w", buffering=1) as log:
    builder = dataset.builder(
        raw, out, workers, lambda line: log.write(json.dumps(line) + "\n"))
    # TFDS talks of downloads, hence the redirection.
    with (shards.written(compression),
          contextlib.redirect_stdout(io.StringIO())):
      builder.download_and_prepare()
  shutil.rmtree(out / "downloads", ignore_errors=True)  # TFDS's, and empty


def _write_index(out: pathlib.Path):
  """Reads every record back and notes what sampling wants to know of it."""
  folder = out / record.read_contract(out).records
  index = {}
  for split in tfds.builder_from_directory(folder).info.splits:
    source = record.Source(folder, split, only=(
        "study_id", "patient_id", "series_names", "items", "normal",
        "heatmap"))
    columns = collections.defaultdict(list)
    for study in tqdm.tqdm(source, desc=f"{split}: index", unit="study"):
      columns["study_id"].append(study["study_id"])
      columns["patient_id"].append(study["patient_id"])
      columns["num_series"].append(len(study["series_names"]))
      columns["num_items"].append(len(study["items"]))
      columns["normal"].append(study["normal"])
      if "heatmap" in study:
        columns["expert"].append(study["heatmap"].size > 0)
    index |= {f"{split}/{k}": np.array(v) for k, v in columns.items()}
  np.savez_compressed(out / "index.tmp.npz", **index)
  (out / "index.tmp.npz").rename(out / "index.npz")


def _print_summary(out: pathlib.Path):
  with np.load(out / "index.npz") as index:
    counts = [f"{name.split('/')[0]} {len(index[name])}"
              for name in index if name.endswith("/study_id")]
  lines = [json.loads(line)
           for line in (out / "ingest.jsonl").read_text().splitlines()]
  left_out = ["series" in line for line in lines if "reason" in line]
  print(f"Built {out}: studies {', '.join(counts)}; {left_out.count(False)} "
        f"rejected and {left_out.count(True)} series left out, "
        f"{len(lines) - len(left_out)} notes, see ingest.jsonl.")


if __name__ == "__main__":
  flags.mark_flags_as_required(["dataset", "out"])
  app.run(main)

"""Builds a data set: raw scans and reports -> checked ArrayRecord.

The embedded phantom, ready for the demo (about a minute on two cores):

    python -m data_pipelines.prepare --dataset=phantom_brain --out=data/brain

A smaller one, for a first look:

    python -m data_pipelines.prepare --dataset=phantom_brain --out=data/tiny \\
        --num_train=32 --num_valid=8 --num_test=8

Your own MRI studies, <source>/<split>/<study>/<series>/img.nii.gz with
<source>/train.json = { "<study>": { "series": {"AX_T2": {}, ...},
"report": ["item", ...], "subid": "<patient>" }, ... } and likewise valid.json
and test.json:

    python -m data_pipelines.prepare --dataset=studies --out=data/mri \\
        --source=mri

A finished set is used again as it is; an interrupted build goes on when the
same command is given once more. Studies that cannot be used are listed with
the reason in <out>/ingest.jsonl. Only the options that you name are passed on;
an option that the data set does not have is an error.
"""

import collections
import contextlib
import io
import json
import os
import pathlib
import shutil
import sys

from absl import app
from absl import flags
from absl import logging
import numpy as np
import tensorflow_datasets as tfds
import tqdm

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines.files import write_json
from data_pipelines.parallel import Workers
from itemclip_jax.data import record

_DATASET = flags.DEFINE_string(
    "dataset", None, f"What to build: {', '.join(datasets.names())}.")
_OUT = flags.DEFINE_string("out", None, "Folder of the finished data set.")
_WORKERS = flags.DEFINE_integer(
    "workers", os.cpu_count(), "Processes at work; the result is the same for "
    "any number.", lower_bound=1)
_OPTIONS = (
    flags.DEFINE_string(
        "source", None, "Folder of the raw archive. studies: required. "
        "phantom_brain: where to write it, <out>/raw unless given."),
    flags.DEFINE_list(
        "shape", None, "Stored voxels D,H,W of every series, e.g. 48,224,224. "
        "(studies)"),
    flags.DEFINE_list(
        "resize", None, "D,H,W before the centre crop to --shape, e.g. "
        "48,256,256. (studies)"),
    flags.DEFINE_string(
        "intensity", None, "percentiles (HLIP's rule, the default) or median "
        "(keeps the brightness of tissue whatever the lesion). (studies)"),
    flags.DEFINE_integer("seed", None, "Of the phantom's subjects."),
    flags.DEFINE_integer("num_train", None, "Phantom subjects of train."),
    flags.DEFINE_integer("num_valid", None, "Phantom subjects of valid."),
    flags.DEFINE_integer("num_test", None, "Phantom subjects of test."),
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
  logging.set_verbosity(logging.WARNING)  # TFDS logs every file it opens
  try:
    dataset = datasets.make(_DATASET.value, **_options())
    build(dataset, pathlib.Path(_OUT.value), num_workers=_WORKERS.value)
  except errors.PrepareError as error:
    print(error, file=sys.stderr)
    sys.exit(2)


def build(dataset, out: pathlib.Path, *, num_workers: int):
  """Builds `dataset` in `out`, or finds that it is there already."""
  if _is_built(dataset, out):
    print(f"{out} is built already; using it.")
    return
  needed = dataset.bytes_needed()
  errors.require_free(out, needed)
  try:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "contract.json", dataset.contract().to_dict(), indent=1)
    with Workers(num_workers) as workers:
      raw = dataset.fetch(out, workers)
      write_json(out / "findings.json", dataset.findings(raw), indent=1)
      _write_records(dataset, raw, out, workers)
    _write_index(out)  # last: its presence says that the set is complete
  except Exception as error:
    if errors.is_disk_full(error):
      raise errors.PrepareError(
          errors.disk_full_sentence(out, needed)) from error
    raise
  _print_summary(out)


def _options() -> dict:
  """The options given on the command line, as the data set takes them."""
  given = {f.name: f.value for f in _OPTIONS if f.value is not None}
  for name in ("shape", "resize"):
    if name in given:
      given[name] = _three_sizes(name, given[name])
  return given


def _three_sizes(name: str, parts: list[str]) -> tuple[int, int, int]:
  if len(parts) != 3 or not all(p.strip().isdigit() for p in parts):
    raise errors.PrepareError(f"--{name} is {','.join(parts)!r}; want three "
                              "numbers D,H,W such as 48,224,224.")
  return tuple(int(p) for p in parts)


def _is_built(dataset, out: pathlib.Path) -> bool:
  """True where the same recipe has been built; another one is an error."""
  if not (out / "contract.json").exists():
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


def _write_records(dataset, raw, out: pathlib.Path, workers: Workers):
  """Runs the TFDS builder; what an interrupted run left of it is deleted."""
  tfds.disable_progress_bar()  # ours knows the totals
  if (out / dataset.contract().records).exists():
    return
  for unfinished in out.glob("*/incomplete.*"):
    shutil.rmtree(unfinished)
  with open(out / "ingest.jsonl", "w", buffering=1) as log:
    builder = dataset.builder(
        raw, out, workers, lambda line: log.write(json.dumps(line) + "\n"))
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS talks of downloads
      builder.download_and_prepare()
  shutil.rmtree(out / "downloads", ignore_errors=True)  # TFDS's, and empty


def _write_index(out: pathlib.Path):
  """Reads every record back and notes what sampling wants to know of it."""
  folder = out / record.read_contract(out).records
  index = {}
  for split in tfds.builder_from_directory(folder).info.splits:
    source = record.Source(folder, split, only=(
        "study_id", "patient_id", "series_names", "items", "normal"))
    columns = collections.defaultdict(list)
    for study in tqdm.tqdm(source, desc=f"{split}: index", unit="study"):
      columns["study_id"].append(study["study_id"])
      columns["patient_id"].append(study["patient_id"])
      columns["num_series"].append(len(study["series_names"]))
      columns["num_items"].append(len(study["items"]))
      columns["normal"].append(study["normal"])
    index |= {f"{split}/{k}": np.array(columns[k]) for k in record.INDEX}
  np.savez_compressed(out / "index.tmp.npz", **index)
  (out / "index.tmp.npz").rename(out / "index.npz")


def _print_summary(out: pathlib.Path):
  with np.load(out / "index.npz") as index:
    counts = [f"{name.split('/')[0]} {len(index[name])}"
              for name in index if name.endswith("/study_id")]
  lines = (out / "ingest.jsonl").read_text().splitlines()
  rejected = sum("series" not in json.loads(line) for line in lines)
  print(f"Built {out}: studies {', '.join(counts)}; {rejected} rejected and "
        f"{len(lines) - rejected} series left out, see ingest.jsonl.")


if __name__ == "__main__":
  flags.mark_flags_as_required(["dataset", "out"])
  app.run(main)

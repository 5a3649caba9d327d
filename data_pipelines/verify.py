"""Audits a built data set: is it whole, plausible, and split cleanly?

    python -m data_pipelines.verify data/brain

reads every record of the set that data_pipelines.prepare made and writes, to
data/brain/verify unless --out names another folder,

    verify.json     counts, digests, item and label statistics, problems
    verify.html     the same as one page to look at or to mail
    contact.png     a slice (or picture) of some studies of every split
    histogram.png   intensities, items per study, words per item

Problems, one sentence each, go to stdout: records that cannot be read or are
not what the contract promises, a patient in two splits, the same voxels in two
studies, black or constant series, Hounsfield units or affines that cannot be
true. What is only worth knowing, such as findings without positives, is a note.

Exit code: 0 without problems, 1 with problems, 2 if the set cannot be opened.
"""

import bisect
import dataclasses
import hashlib
import itertools
import os
import pathlib
import sys

from absl import app
from absl import flags
from absl import logging
import tensorflow_datasets as tfds
import tqdm

from data_pipelines.audit import examine
from data_pipelines.audit import page
from data_pipelines.audit import pictures
from data_pipelines.audit import statistics
from data_pipelines.files import write_json
from data_pipelines.parallel import Workers
from itemclip_jax.data import record

CONTACT_DPI, HISTOGRAM_DPI = 160, 144
# Sentences of one kind on stdout; the rest is in verify.json.
MAX_SENTENCES = 20


@dataclasses.dataclass(frozen=True)
class Shard:
  """One file of a split and the numbers of its first and last record + 1."""
  path: pathlib.Path
  start: int
  stop: int


def audit(
    root: pathlib.Path, out: pathlib.Path, *, num_workers: int = 1,
    num_drawn: int = 24, max_words: int = 60) -> dict:
  """Audits the set in `root`, writes the four files into `out`.

  Args:
    root: the folder given to data_pipelines.prepare as --out.
    num_workers: processes at work; the result is the same for any number.
    num_drawn: studies on the contact sheet, over all splits.
    max_words: an item with more words counts as long.

  Returns:
    What verify.json holds.

  Raises:
    ValueError: the set cannot be opened; the text says why and what to do.
  """
  contract, findings = record.read_contract(root), record.read_findings(root)
  shards = _shards(root / contract.records)
  examine.open_cached.cache_clear()  # it may have been built anew since
  totals = statistics.Totals(findings, max_words=max_words)
  thumbnails = []
  with Workers(num_workers) as workers:
    for split in shards:
      drawn = _spread(shards[split][-1].stop, -(-num_drawn // len(shards)))
      thumbnails += _read_split(
          root, split, shards[split], totals, workers, drawn)
  ingest, notes = _ingest(root, totals)
  report = {
      "dataset": contract.dataset, "root": str(root), "ok": not totals.problems,
      "problems": [dataclasses.asdict(p) for p in totals.problems],
      "notes": totals.notes() + notes,
      "splits": {s: t.summary() for s, t in totals.splits.items()},
      "items": totals.item_summary(), "labels": totals.label_summary(),
      "ingest": ingest, "shards": _shard_digests(shards),
      "histogram": _histogram_summary(totals),
      "contract": contract.to_dict()}
  _write(out, report, totals, thumbnails, contract.modality)
  return report


def _read_split(root, split: str, shards: list[Shard], totals, workers,
                drawn: set[int]) -> list[pictures.Thumbnail]:
  """Adds all records of a split to `totals`; returns those to be drawn."""
  totals.add_split(split)
  try:
    opened = record.open_split(root, split)
  except ValueError as error:
    totals.problems.append(statistics.Problem("split", str(error)))
    return []
  jobs = [examine.Job(root, split, n, draw=n in drawn)
          for n in range(len(opened.source))]
  thumbnails, lost = [], {}
  for facts in workers.map(examine.examine, jobs, title=f"{split}: records"):
    if isinstance(facts, examine.Unreadable):
      totals.add_unreadable(split)
      starts = [shard.start for shard in shards]
      shard = shards[bisect.bisect_right(starts, facts.number) - 1]
      lost.setdefault(shard, []).append(facts)
      continue
    totals.add(split, facts, opened.index)
    if facts.thumbnail is not None:
      thumbnails.append(facts.thumbnail)
  totals.problems += [
      statistics.Problem("damaged shard", f"{len(gone)} of "
                         f"{shard.stop - shard.start} records of {shard.path} "
                         f"cannot be read: {gone[0].reason}")
      for shard, gone in lost.items()]
  return thumbnails


def _shards(folder: pathlib.Path) -> dict[str, list[Shard]]:
  """The files of every split, in order.

  Raises:
    ValueError: there is no description of the records, or a file is missing.
  """
  rebuild = "delete the set and build it again with data_pipelines.prepare"
  try:
    splits = tfds.builder_from_directory(folder).info.splits
  except Exception as error:  # TFDS raises nothing narrower
    raise ValueError(f"The description of the records in {folder} cannot be "
                     f"read ({error}); {rebuild}.") from error
  shards = {}
  for name, info in splits.items():
    stops = [0, *itertools.accumulate(info.shard_lengths)]
    shards[name] = [Shard(pathlib.Path(path), *between) for path, between in
                    zip(info.filepaths, itertools.pairwise(stops))]
  missing = [shard.path for of_split in shards.values() for shard in of_split
             if not shard.path.is_file()]
  if missing:
    raise ValueError(f"Shard {missing[0]} is missing; {rebuild}.")
  if not shards:
    raise ValueError(f"There is no split in {folder}; {rebuild}.")
  return shards


def _shard_digests(shards: dict[str, list[Shard]]) -> dict[str, dict]:
  """File name -> its records, bytes and sha256."""
  digests = {}
  for shard in tqdm.tqdm(list(itertools.chain(*shards.values())),
                         desc="digests of the shards", unit="file"):
    with open(shard.path, "rb") as file:
      digests[shard.path.name] = {
          "records": shard.stop - shard.start,
          "bytes": shard.path.stat().st_size,
          "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
  return digests


def _ingest(root: pathlib.Path, totals) -> tuple[dict, list[str]]:
  """The summary of ingest.jsonl, and a note where the file is missing."""
  path = root / "ingest.jsonl"
  if not path.exists():
    return {}, [f"There is no {path}, so nobody knows what was left out."]
  try:
    return statistics.read_ingest(path.read_text(encoding="utf-8")), []
  except ValueError as error:
    totals.problems.append(statistics.Problem(
        "ingest log", f"The log of {root} is damaged: {error}."))
    return {}, []


def _histogram_summary(totals) -> dict:
  """The lower edge of the first bin, the width, and split -> channel."""
  splits = {split: {c: counts.tolist() for c, counts in t.histogram.items()}
            for split, t in totals.splits.items()}
  edges = _edges(totals)
  return {"first": int(edges[0]), "width": int(edges[1] - edges[0]),
          "counts": splits}


def _edges(totals):
  counts = [c for t in totals.splits.values() for c in t.histogram.values()]
  hounsfield = counts and len(counts[0]) == len(examine.HU_EDGES)
  return examine.HU_EDGES if hounsfield else examine.GREY_EDGES


def _spread(total: int, wanted: int) -> set[int]:
  """Record numbers, evenly spaced over a split."""
  wanted = min(wanted, total)
  return {(2 * i + 1) * total // (2 * wanted) for i in range(wanted)}


def _write(out: pathlib.Path, report: dict, totals, thumbnails, modality: str):
  out.mkdir(parents=True, exist_ok=True)
  contact = histogram = b""
  if thumbnails:
    contact = pictures.png(pictures.contact_sheet(thumbnails), CONTACT_DPI)
  if any(t.histogram for t in totals.splits.values()):
    histogram = pictures.png(pictures.histograms(
        {split: t.histogram for split, t in totals.splits.items()},
        _edges(totals), modality=modality,
        per_study=report["items"]["per_study"],
        words=report["items"]["words"]), HISTOGRAM_DPI)
  for name, png in (("contact.png", contact), ("histogram.png", histogram)):
    (out / name).unlink(missing_ok=True)  # of an audit that could draw it
    if png:
      (out / name).write_bytes(png)
  (out / "verify.html").write_text(
      page.render(report, contact=contact, histogram=histogram),
      encoding="utf-8")
  write_json(out / "verify.json", report, indent=1)


def _print(report: dict, out: pathlib.Path):
  """Problems, notes, then one line of counts and where to read on."""
  shown = {}
  for problem in report["problems"]:
    shown[problem["kind"]] = shown.get(problem["kind"], 0) + 1
    if shown[problem["kind"]] <= MAX_SENTENCES:
      print(problem["text"])
  for kind, number in shown.items():
    if number > MAX_SENTENCES:
      print(f"And {number - MAX_SENTENCES} more of the kind {kind!r}, see "
            f"{out / 'verify.json'}.")
  for note in report["notes"]:
    print(f"Note: {note}")
  counts = ", ".join(f"{split} {row['studies']}"
                     for split, row in report["splits"].items())
  print(f"{len(report['problems']) or 'No'} problem"
        f"{'' if len(report['problems']) == 1 else 's'} in {report['root']} "
        f"(studies: {counts}); see {out / 'verify.html'}.")


def main(argv):
  if len(argv) != 2:
    raise app.UsageError("Give the folder of one built data set, e.g. "
                         "data/brain.", exitcode=2)
  logging.set_verbosity(logging.WARNING)
  root = pathlib.Path(argv[1])
  out = pathlib.Path(flags.FLAGS.out or root / "verify")
  try:
    report = audit(root, out, num_workers=flags.FLAGS.workers,
                   num_drawn=flags.FLAGS.draw, max_words=flags.FLAGS.max_words)
  except ValueError as error:
    print(f"data_pipelines.verify: {error}", file=sys.stderr)
    sys.exit(2)
  _print(report, out)
  sys.exit(1 if report["problems"] else 0)


def _parse_flags(argv: list[str]) -> list[str]:
  """Ends with code 2 where absl's own parser ends with 1, our "problems"."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    print(f"data_pipelines.verify: {error} See --help.", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
  flags.DEFINE_string("out", None, "Folder of the results, DIR/verify unless "
                      "given.")
  flags.DEFINE_integer("workers", os.cpu_count(), "Processes at work; the "
                       "result is the same for any number.", lower_bound=1)
  flags.DEFINE_integer("draw", 24, "Studies on the contact sheet.",
                       lower_bound=1)
  flags.DEFINE_integer("max_words", 60, "Items with more words are counted as "
                       "long.", lower_bound=1)
  app.define_help_flags()
  app.run(main, flags_parser=_parse_flags)

"""Results -> the training files of three families of models.

    itemizedclip   the recipe tells the layout, --layout another one:
        ct_rate      { "train_1_a": {"recons": [...], "report": [...]} } for
                     ctrate_abnormal; ids are those of scans or of volumes
        studies      { "<study>": {"series": {...}, "report": [...]} } for
                     summary_list; the series are those of --into. Where --out
                     ends in .csv: a table of study, numbered list
        rsicd        { "<row>": [...] } for dedup; ids are rows of train.csv
        itemized_cc  { "<number>": [...] } for verify2; ids are numbers as in
                     data_pipelines/datasets/itemized_cc.py
    fvlm           { "<session>": {"<anatomy>": text} } of recipe anatomy; the
                   text of a normal one begins with the sentence that says so
    medfilip       { "<id>": [{"severity", "location", "category", "negated"}] }
                   of recipe triplet; records without any are left out

data_pipelines.prepare reads those of itemizedclip. A record without items, such
as an empty report, is not normal: `studies` and `ct_rate` get an empty list,
which the builders reject or fill from labels, the pictures none at all.

References: Lyu et al. 2025, https://arxiv.org/abs/2512.11141; Shui et al. 2025,
https://arxiv.org/abs/2501.14548; Liang et al. 2025,
MedFILIP, IEEE JBHI.
"""

import csv
import io
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from data_pipelines.errors import PrepareError
from data_pipelines.files import write_json
from data_pipelines.itemize import recipes
from data_pipelines.itemize.contract import Result
from data_pipelines.itemize.lines import read

LAYOUTS = {"ctrate_abnormal": "ct_rate", "summary_list": "studies",
           "dedup": "rsicd", "verify2": "itemized_cc"}
# By what item the readers of a layout know a normal study.
NORMAL = {"ct_rate": recipes.NORMAL_CHEST_CT, "studies": recipes.NORMAL_STUDY}
Items = dict[str, list[str]]   # id -> texts
_VOLUME = re.compile(r"((?:train|valid)_\d+_[a-z]+)_\d+(?:\.nii\.gz)?")


def export(source: pathlib.Path, out: pathlib.Path, to: str, *,
           layout: str | None = None, into: pathlib.Path | None = None) -> str:
  """Writes a training file.

  Args:
    source: results of one recipe.
    out: the file to write.
    to: one of FORMATS.
    layout: one of LAYOUTS' values; None: the recipe's. itemizedclip only.
    into: a file whose entries get the items as their reports: `studies` and
      `ct_rate` only. What it says of other studies stays.

  Returns:
    A sentence about what was written.

  Raises:
    PrepareError: the results, ids or options do not fit.
  """
  if to not in FORMATS:
    raise PrepareError(f"--to={to} is none of {', '.join(FORMATS)}.")
  if out.resolve() == source.resolve():
    raise PrepareError(f"--out={out} is the file to be read; name another.")
  if to != "itemizedclip" and (layout or into):
    raise PrepareError(f"--to={to} takes neither --layout nor --into.")
  recipe, found = _found(source, to)
  if to == "itemizedclip":
    return _itemizedclip(recipes.get(recipe), found, out,
                         layout or LAYOUTS[recipe], into)
  value = {name: said for name, said in found.items() if said}
  write_json(out, value)
  return _told(value, found, out)


def read_results(path: pathlib.Path) -> Iterator[Result]:
  """The results of a file, one in memory at a time."""
  for line in read(path):
    try:
      value = json.loads(line.raw)
    except (ValueError, RecursionError):
      value = None  # no result either
    yield Result.from_json(value, line.where())


def _found(path: pathlib.Path, to: str) -> tuple[str, dict[str, Any]]:
  """The recipe, and what every record says in the format `to` by its id."""
  gives, said_by = _SAID[to]
  fitting = [r.name for r in recipes.RECIPES.values() if r.gives == gives]
  found, recipe = {}, None
  for result in read_results(path):
    recipe = recipe or result.recipe
    if result.recipe not in fitting:
      raise PrepareError(f"{path} is of recipe {result.recipe}, --to={to} "
                         f"wants {' or '.join(fitting)}.")
    if result.recipe != recipe or result.id in found:
      raise PrepareError(f"{path} holds two recipes or record {result.id!r} "
                         "twice; give the results of one run.")
    found[result.id] = said_by(result)
  if recipe is None:
    raise PrepareError(f"{path} holds no result; give the --out of a run.")
  return recipe, found


def _texts(result: Result) -> list[str]:
  return [item.text for item in result.items]


def _anatomies(result: Result) -> dict[str, str]:
  return {name: said["text"] for name, said in result.anatomies.items()}


def _triplets(result: Result) -> list[dict[str, Any]]:
  return [{"severity": t.severity, "location": t.location,
           "category": t.category, "negated": t.negated}
          for t in result.triplets]


# Format -> what its recipes give, and how a result says it.
_SAID = {"itemizedclip": ("items", _texts), "fvlm": ("anatomies", _anatomies),
         "medfilip": ("triplets", _triplets)}
FORMATS = tuple(_SAID)


def _itemizedclip(recipe, found: Items, out: pathlib.Path, layout: str,
                  into: pathlib.Path | None) -> str:
  writers: dict[str, Callable] = {
      "ct_rate": _ct_rate, "studies": _studies, "rsicd": _rows,
      "itemized_cc": _rows}
  if layout not in writers:
    raise PrepareError(f"--layout={layout} is none of {', '.join(writers)}.")
  if recipe.normal and layout in NORMAL:
    found = {name: [NORMAL[layout]] if texts == [recipe.normal] else texts
             for name, texts in found.items()}
  if out.suffix == ".csv":
    if layout != "studies" or into:
      raise PrepareError("A .csv file is a table of study and numbered list: "
                         "it wants --layout=studies and no --into.")
    _write_csv(out, found)
    return _told(found, found, out)
  if into and layout in ("rsicd", "itemized_cc"):
    raise PrepareError(f"--layout={layout} holds nothing but items; leave "
                       "--into out.")
  value, told = writers[layout](found, into)
  write_json(out, value)
  return _told(told, found, out)


def _studies(found: Items, into: pathlib.Path | None):
  if into is None:
    raise PrepareError(
        "--layout=studies wants --into=FILE, the train.json that names the "
        "series of every study; or name --out=FILE.csv and give that to "
        "data_pipelines.prepare as --reports.")
  entries = _entries(into)
  shared = found.keys() & entries.keys()
  if not shared:
    raise PrepareError(f"No study of {into} is among the results, e.g. "
                       f"{next(iter(entries), None)!r} is not; ids must be "
                       "names of studies.")
  for study in shared:
    if "lesions" in entries[study]:
      raise PrepareError(
          f"{into} outlines the lesions of {study!r} by the number of their "
          "item, so its report cannot be replaced; leave that record out.")
  return {study: entry | {"report": found[study]}
          if study in shared else entry
          for study, entry in entries.items()}, shared


def _ct_rate(found: Items, into: pathlib.Path | None):
  entries = _entries(into) if into else {}
  made = {}
  for name, texts in found.items():
    volume = _VOLUME.fullmatch(name)
    scan = volume[1] if volume else name
    entry = made.setdefault(scan, {"recons": [], "report": texts})
    if entry["report"] != texts:
      raise PrepareError(f"The volumes of scan {scan!r} have different items, "
                         "want one report a scan; leave all but one out.")
    if volume:
      stem = name.removesuffix(".nii.gz")
      entry["recons"].append(f"{stem}.nii.gz")
  for scan in made.keys() & entries.keys():
    made[scan] = entries[scan] | {"report": made[scan]["report"]}
  return entries | made, made


def _rows(found: Items, into: None):
  del into  # refused before
  for name in found:
    if not (name.isdecimal() and str(int(name)) == name):
      raise PrepareError(f"Record {name!r} is no row: the ids of this layout "
                         "are numbers without leading zeros.")
  # Captions are lower case in the published files.
  value = {name: [text.lower() for text in texts]
           for name, texts in found.items() if texts}
  return value, value


def _entries(path: pathlib.Path) -> dict[str, dict]:
  try:
    entries = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise PrepareError(f"--into={path} cannot be read ({error}); give a JSON "
                       "file of one entry a study.") from error
  if not isinstance(entries, dict) or not all(
      isinstance(entry, dict) for entry in entries.values()):
    raise PrepareError(f"--into={path} holds no object of one entry a study; "
                       "give such a file.")
  return entries


def _write_csv(path: pathlib.Path, found: Items):
  buffer = io.StringIO(newline="")
  writer = csv.writer(buffer)
  for name, texts in found.items():
    writer.writerow([name, "\n".join(
        f"{n}. {text}" for n, text in enumerate(texts, 1))])
  unfinished = path.with_name(f".{path.name}")
  unfinished.write_text(buffer.getvalue(), encoding="utf-8", newline="")
  unfinished.rename(path)


def _told(written, found, out: pathlib.Path) -> str:
  return (f"Wrote {out}: {len(written)} entries with what {len(found)} results "
          "say.")

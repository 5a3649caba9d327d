"""One self-contained HTML page about a run: numbers, pictures, settings.

    python -m itemclip_jax.tools.report --workdir=runs/demo

reads what training and evaluation left in the run directory (`results.json`,
`metrics.jsonl`, `final.json`, `config.json`, `figures/attention_*.npz`, which
it draws) and writes `report.html` there. The page needs no
script and no other file, so it can be mailed or printed. What is missing is
named on the page and left out; what is undefined is called undefined.
"""

import base64
import dataclasses
import io
import json
import pathlib

from absl import app
from absl import flags
import jinja2

from itemclip_jax.errors import UserError, read_json
from itemclip_jax.tools import curves
from itemclip_jax.tools import visualize

TEMPLATE = pathlib.Path(__file__).with_name("report.html")
FIGURE_DPI = 144                  # twice a CSS pixel's 72: sharp when printed


@dataclasses.dataclass(frozen=True)
class Card:
  """A headline number, and those that it should be compared with."""
  title: str
  key: str                        # of results.json
  others: tuple[tuple[str, str], ...]  # (what, key of results.json)
  meaning: str
  unit: str                       # what n counts


CARDS = (
    Card("Zero-shot AUC", "zeroshot_auc/mean_tcsim",
         (("untrained", "zeroshot_auc/mean_untrained"),),
         "Mean over findings: does the score rise when the finding is there? "
         "0.5 is guessing, 1 is perfect.", "findings"),
    Card("AUC, global vector", "zeroshot_auc/mean_global",
         (("with attention", "zeroshot_auc/mean_tcsim"),),
         "The same with one vector for the whole study; the gap is what "
         "looking at the right place adds.", "findings"),
    Card("Pointing", "pointing/top1",
         (("chance", "pointing/chance"), ("untrained", "pointing/untrained")),
         "How often the single most attended token lies on the lesion that "
         "the text names.", "lesions"),
    Card("Right series", "pointing/series_top1",
         (("chance", "pointing/series_chance"),),
         "How often the most attended series is one that shows the lesion.",
         "lesions"),
    Card("Overlap (IoU)", "segmentation/iou",
         (("chance", "segmentation/iou_chance"),),
         "Overlap of the most attended tokens with the lesion outline. Tokens "
         "are boxes, so 1 cannot be reached.", "lesions"),
)

# What the run was: label -> settings of config.json that say it.
HIGHLIGHTS = (
    ("Data set", ("data.dataset",)),
    ("Objective", ("objective",)),
    ("Input, voxels", ("vision.volume_shape",)),
    ("Token, voxels", ("vision.patch",)),
    ("Image tower", ("vision.tower", "vision.width", "vision.depth")),
    ("Text tower", ("text.width", "text.depth")),
    ("Items per study, at most", ("text.max_items",)),
    ("Studies per step", ("train.global_batch",)),
    ("Learning rate", ("optimizer.learning_rate",)),
    ("Random seed", ("seed",)),
)


def build(workdir: pathlib.Path) -> pathlib.Path:
  """Writes `report.html` into a run directory and returns its path."""
  workdir = pathlib.Path(workdir)
  if not workdir.is_dir():
    raise UserError(f"{workdir} is no directory; give that of a run.")
  results = _read_json(workdir / "results.json")
  config = _read_json(workdir / "config.json")
  if any((workdir / "figures").glob("attention_*.npz")):
    visualize.draw_examples(workdir)
  environment = jinja2.Environment(
      autoescape=True, trim_blocks=True, lstrip_blocks=True,
      undefined=jinja2.StrictUndefined)
  environment.filters |= dict(number=number, interval=interval, size=size)
  page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
      name=workdir.resolve().name,
      dataset=config.get("data", {}).get("dataset", ""),
      cards=cards(results),
      has_results=bool(results),
      gallery=gallery(workdir / "figures"),
      auc=_auc_png(results),
      curves=_curves_png(workdir / "metrics.jsonl"),
      findings=finding_rows(results),
      others=other_rows(results),
      highlights=highlights(config),
      final=final_rows(_read_json(workdir / "final.json")),
      config=json.dumps(config, indent=2) if config else "")
  path = workdir / "report.html"
  partial = path.with_suffix(".partial")  # half a page would look finished
  partial.write_text(page, encoding="utf-8")
  partial.replace(path)
  return path


def cards(results: dict) -> list[dict]:
  """Cards whose number was measured, with marks on a scale from 0 to 1."""
  made = []
  for card in CARDS:
    if card.key not in results:
      continue
    entry = results[card.key]
    others = [dict(results[key], what=what)
              for what, key in card.others if key in results]
    made.append(dict(
        entry, title=card.title, meaning=card.meaning, unit=card.unit,
        others=others, scale=_scale(entry), marks=[
            dict(what=o["what"], x=_position(o["value"]))
            for o in others if curves.is_number(o["value"])]))
  return made


def gallery(folder: pathlib.Path) -> list[dict]:
  """The attention figures as inline images, with their captions."""
  captions = _read_json(folder / "captions.json")
  return [dict(src=_inline(path.read_bytes()),
               caption=captions.get(path.name, ""))
          for path in sorted(folder.glob("attention_*.png"))]


def finding_rows(results: dict) -> list[dict]:
  """One row per finding, most positives first."""
  trained = curves.findings_of(results, "tcsim")
  before = curves.findings_of(results, "untrained")
  names = sorted(trained, key=lambda f: (-(trained[f]["n"] or 0), f))
  return [dict(trained[f], name=f, before=before.get(f)) for f in names]


def other_rows(results: dict) -> dict[str, dict]:
  """Measures that neither a card nor the table of findings shows."""
  shown = {key for card in CARDS
           for key in (card.key, *(key for _, key in card.others))}
  per_finding = ("zeroshot_auc/tcsim/", "zeroshot_auc/untrained/")
  return {key: entry for key, entry in results.items()
          if key not in shown and not key.startswith(per_finding)}


def highlights(config: dict) -> list[tuple[str, str]]:
  """The settings that tell runs apart, in words; unknown ones are left out."""
  rows = []
  for label, paths in HIGHLIGHTS:
    values = [_setting(config, path) for path in paths]
    if all(v is not None for v in values):
      rows.append((label, " · ".join(
          f"{path.rsplit('.')[-1]} {v}" if len(paths) > 1 else str(v)
          for path, v in zip(paths, values))))
  weights = {k.removesuffix("_weight").upper(): v
             for k, v in config.get("loss", {}).items()
             if k.endswith("_weight")}
  if weights:
    rows.append(("Loss weights", " · ".join(
        f"{name}\u00a0{value:g}" for name, value in weights.items())))
  return rows


def final_rows(final: dict) -> list[tuple[str, str]]:
  """All of final.json in full, the digests last."""
  rows = [("At the end: " + key.replace("_", " "),
           value if isinstance(value, str) else json.dumps(value))
          for key, value in final.items()]
  return sorted(rows, key=lambda row: len(row[1]) > 40)


def number(value) -> str:
  """Three decimals, two digits if tiny; "undefined" for None or NaN."""
  if not curves.is_number(value):
    return "undefined"
  return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def interval(ends) -> str:
  """`0.71 to 0.80`, or a dash when there is none."""
  if not ends or not all(map(curves.is_number, ends)):
    return "—"
  return f"{number(ends[0])} to {number(ends[1])}"


def size(n) -> str:
  """A count; a dash when the evaluator gave none."""
  return "—" if n is None else str(n)


def _setting(config: dict, path: str):
  for part in path.split("."):
    config = config.get(part) if isinstance(config, dict) else None
  if isinstance(config, list):
    return " × ".join(map(str, config))
  return config


def _position(value: float) -> float:
  """Place on a scale from 0 to 1, in per cent."""
  return round(100 * min(1.0, max(0.0, value)), 2)


def _scale(entry: dict) -> dict | None:
  """Where the value and its interval lie; None when it is undefined."""
  if not curves.is_number(entry["value"]):
    return None
  ends = entry.get("ci95") or []
  low, high = (map(_position, ends) if len(ends) == 2
               and all(map(curves.is_number, ends)) else (0, 0))
  return dict(x=_position(entry["value"]), low=low, width=high - low)


def _auc_png(results: dict) -> str:
  findings = curves.findings_of(results, "tcsim")
  if not findings:
    return ""
  return _png(curves.auc_figure(
      findings, curves.findings_of(results, "untrained")))


def _curves_png(path: pathlib.Path) -> str:
  if not path.exists():
    return ""
  return _png(curves.training_curves(curves.read_metrics(path)))


def _png(figure) -> str:
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=FIGURE_DPI)
  return _inline(buffer.getvalue())


def _inline(png: bytes) -> str:
  return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _read_json(path: pathlib.Path) -> dict:
  """The file's content, {} when it does not exist."""
  if not path.exists():
    return {}
  return read_json(path, "Run the step that writes it again.")


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
  print(build(flags.FLAGS.workdir))


if __name__ == "__main__":
  flags.DEFINE_string("workdir", None, "The run directory to report on.",
                      required=True)
  app.run(main)

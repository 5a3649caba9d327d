"""One self-contained HTML page about a run: numbers, pictures, settings.

    python -m itemclip_jax.tools.report --workdir=runs/demo

reads what training and evaluation left in the run directory (`results.json`,
`predictions/`, `metrics.jsonl`, `final.json`, `config.json` and
`figures/attention_*.npz`, which it draws) and writes `report.html` there. The
page needs no script and no other file, so it can be mailed or printed. What is
missing is named on the page and left out; what is undefined is called
undefined. An evaluation of a released model has no part on training.
"""

import json
import pathlib

from absl import app
from absl import flags

from itemclip_jax.errors import UserError, read_json
from itemclip_jax.evaluators import predictions
from itemclip_jax.tools import curves
from itemclip_jax.tools.pages import page
from itemclip_jax.tools.pages import words
from itemclip_jax.tools.pages import section_figures
from itemclip_jax.tools.pages import section_tables
from itemclip_jax.tools.pages import sections
from itemclip_jax.tools import visualize
from itemclip_jax.tools.figures.style import is_number

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

# What was measured: label -> place in results.json under "about".
ABOUT = (
    ("Data set", "data.dataset"),
    ("Split", "data.split"),
    ("Studies", "data.studies"),
    ("Checkpoint", "checkpoint.folder"),
    ("Step", "checkpoint.step"),
    ("Software", "software"),
    ("Folder of the data", "data.root"),
    ("Digest of the parameters (SHA-256)", "checkpoint.params_sha256"),
    ("Digest of the data (SHA-256)", "data.sha256"),
)


def build(workdir: pathlib.Path) -> pathlib.Path:
  """Writes `report.html` into a run directory and returns its path."""
  workdir = pathlib.Path(workdir)
  if not workdir.is_dir():
    raise UserError(f"{workdir} is no directory; give that of a run.")
  results = _read_json(workdir / "results.json")
  about = results.get("about", {})
  config = about.get("config") or _read_json(workdir / "config.json")
  if any((workdir / "figures").glob("attention_*.npz")):
    visualize.draw_examples(workdir)
  dataset = _setting(about, "data.dataset") or _setting(
      config, "data.dataset") or ""
  found = sections.sections(
      results, dataset=dataset,
      table_of=lambda name: _predictions(workdir, name))
  metrics = workdir / "metrics.jsonl"
  text = page.render(
      "report.html", number=number, interval=interval, size=size,
      is_number=is_number, name=workdir.resolve().name, dataset=dataset,
      about=about_rows(about), studies=_setting(about, "data.studies"),
      evaluators=evaluator_rows(found), parts=[part(s) for s in found],
      has_results=bool(results), galleries=galleries(workdir / "figures"),
      trained=metrics.exists(), curves=_curves(metrics),
      highlights=highlights(config),
      final=final_rows(_read_json(workdir / "final.json")),
      config=json.dumps(config, indent=2) if config else "")
  path = workdir / "report.html"
  page.write(path, text)
  return path


def part(section: sections.Section) -> dict:
  """All that the page says about one evaluator."""
  return dict(
      anchor=f"of-{section.name}", title=section.title,
      words=section.kind.words,
      description=section.spec.description if section.spec else "",
      cards=sections.cards(section), figures=figures(section),
      tables=section_tables.tables(section),
      sources=sections.sources(section), cautions=sections.cautions(section))


def figures(section: sections.Section) -> list[dict]:
  """The charts whose numbers are there, as inline images."""
  made = []
  for chart in section.kind.charts:
    drawn = section_figures.draw(section, chart)
    if drawn is not None:
      figure, caption = drawn
      made.append(dict(src=page.inline_figure(figure), alt=chart.alt,
                       caption=caption,
                       width=round(96 * figure.get_size_inches()[0])))
  return made


def galleries(folder: pathlib.Path) -> list[dict]:
  """The attention figures as inline images, by group in stored order."""
  captions, groups = _read_json(folder / "captions.json"), {}
  for path in sorted(folder.glob("attention_*.png")):
    words_of = captions.get(path.name, {})
    groups.setdefault(words_of.get("group") or "Pictures", []).append(
        dict(src=page.inline(path.read_bytes()),
             caption=words_of.get("caption", "")))
  return [dict(group=group, meaning=words.GALLERIES.get(group, ""),
               pictures=pictures) for group, pictures in groups.items()]


def about_rows(about: dict) -> list[tuple[str, str]]:
  """What was measured of what, as far as results.json tells it."""
  rows = [(label, _setting(about, path)) for label, path in ABOUT]
  return [(label, str(value)) for label, value in rows if value is not None]


def evaluator_rows(found: list[sections.Section]) -> list[dict]:
  """Name, module and prompt set of the evaluators that say so."""
  return [dict(anchor=f"of-{s.name}", title=s.title, name=s.name,
               module=s.about["module"], prompt_set=s.about["prompt_set"])
          for s in found if s.about]


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
  """Three decimals, fewer if large; "undefined" for None or NaN."""
  if not is_number(value):
    return "undefined"
  if abs(value) >= 100:
    return f"{value:.1f}"
  return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def interval(ends) -> str:
  """`0.71 to 0.80`, or a dash when there is none."""
  if not ends or not all(map(is_number, ends)):
    return "—"
  return f"{number(ends[0])} to {number(ends[1])}"


def size(n) -> str:
  """A count; a dash when the evaluator gave none."""
  return "—" if n is None else str(n)


def _setting(config: dict, path: str):
  for name in path.split("."):
    config = config.get(name) if isinstance(config, dict) else None
  if isinstance(config, list):
    return " × ".join(map(str, config))
  return config


def _predictions(workdir: pathlib.Path, name: str):
  """None where a run has kept no predictions."""
  path = workdir / "predictions" / f"{name}.csv"
  return predictions.read(path) if path.exists() else None


def _curves(path: pathlib.Path) -> str:
  if not path.exists():
    return ""
  return page.inline_figure(
      curves.training_curves(curves.read_metrics(path)))


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

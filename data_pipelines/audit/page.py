"""verify.json -> verify.html: one page, no script, no other file."""

import base64
import json
import pathlib

import jinja2

TEMPLATE = pathlib.Path(__file__).with_name("verify.html")
# Sentences of one kind on the page; verify.json has all of them.
MAX_SENTENCES = 50


def render(report: dict, *, contact: bytes, histogram: bytes) -> str:
  """Returns the page.

  Args:
    report: what verify.json holds.
    contact: PNG of the contact sheet, b"" without any study to draw.
    histogram: PNG of the histograms, b"" likewise.
  """
  kinds = {}
  for problem in report["problems"]:
    kinds.setdefault(problem["kind"], []).append(problem["text"])
  environment = jinja2.Environment(
      autoescape=True, trim_blocks=True, lstrip_blocks=True,
      undefined=jinja2.StrictUndefined)
  environment.filters |= dict(percent=_percent)
  template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
  return template.render(
      report=report, kinds=kinds, max_sentences=MAX_SENTENCES,
      contact=_inline(contact), histogram=_inline(histogram),
      contract=json.dumps(report["contract"], indent=2, ensure_ascii=False))


def _inline(png: bytes) -> str:
  if not png:
    return ""
  return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _percent(share: float | None) -> str:
  return "—" if share is None else f"{share:.1%}"

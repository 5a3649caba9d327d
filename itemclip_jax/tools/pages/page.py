"""Renders pages of one look: no script, no other file, pictures inside."""

import base64
import io
import pathlib

import jinja2

FIGURE_DPI = 144                  # twice a CSS pixel's 72: sharp when printed
_FOLDER = pathlib.Path(__file__).parent


def render(template: str, **values) -> str:
  """Fills a template of this folder; what it needs and does not get raises."""
  environment = jinja2.Environment(
      loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True,
      trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
  return environment.get_template(template).render(**values)


def write(path: pathlib.Path, text: str):
  """Half a page would look finished, so it appears at once or not at all."""
  partial = path.with_suffix(".partial")
  partial.write_text(text, encoding="utf-8")
  partial.replace(path)


def inline(png: bytes) -> str:
  """PNG -> data URL."""
  return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def inline_figure(figure) -> str:
  """Matplotlib figure -> data URL."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=FIGURE_DPI)
  return inline(buffer.getvalue())

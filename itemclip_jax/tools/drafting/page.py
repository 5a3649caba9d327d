"""A page of some studies: picture, what was retrieved, draft, own report."""

import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from itemclip_jax.data.contract import Contract
from itemclip_jax.evaluators import measures
from itemclip_jax.tools.figures import heat, slices
from itemclip_jax.tools.pages import page

SHOWN = 12      # studies
_HEIGHT = 200   # pixels of a picture


def chosen(total: int) -> list[int]:
  """Which of `total` studies are shown: evenly spread, first and last too."""
  return np.unique(np.linspace(0, total - 1, min(SHOWN, total)).round()).astype(
      int).tolist()


def picture(example: dict[str, np.ndarray], contract: Contract) -> bytes:
  """PNG of the middle slices of all series side by side, or of a picture.

  Args:
    example: of one study, as evaluation sees it.
    contract: of its intensities.
  """
  volume, names = example["volume"], [n for n in example["names"] if n]
  if slices.is_picture(volume, example["names"]):
    return _png(Image.fromarray(volume[0].transpose(1, 2, 0)))
  S = max(1, len(names))
  volume = slices.radiological(
      volume[:S], np.zeros((S, 1, 1, 1)), None, example["affine"][:S])[0]
  tiles = [_grey(series, contract) for series in volume]
  return _png(Image.fromarray(np.concatenate(tiles, axis=1)))


def write(path: pathlib.Path, studies: list[dict[str, Any]],
          results: dict[str, measures.Result], about: dict[str, Any]):
  """Writes the page.

  Args:
    path: of the HTML file.
    studies: lines of drafts.jsonl with "png" bytes.
    results: the numbers.
    about: what results.json says under this name.
  """
  page.write(path, page.render(
      "draft.html", about=about, results=results,
      studies=[s | {"png": page.inline(s["png"])} for s in studies]))


def _grey(series: np.ndarray, contract: Contract) -> np.ndarray:
  """[D, H, W] -> the middle slice, [H, W] uint8."""
  low, high = heat.grey_limits(series)
  if contract.window:
    centre, width = contract.window
    low, high = centre - width / 2, centre + width / 2
  middle = series[len(series) // 2].astype(np.float32)
  return (255 * np.clip((middle - low) / (high - low), 0, 1)).astype(np.uint8)


def _png(image: Image.Image) -> bytes:
  width = round(image.width * _HEIGHT / image.height)
  buffer = io.BytesIO()
  image.resize((width, _HEIGHT)).save(buffer, "png")
  return buffer.getvalue()

"""Whole-study MRI: intensities, order of series, names and items.

The published code repeats the series of a study until its slots are full.
"""

import re

import numpy as np

from data_pipelines import reports
from data_pipelines.volumes.study import is_normal
from itemclip_jax.data import items as items_lib
from itemclip_jax.data import series_name
from itemclip_jax.data.example import repeat_to_fill
from itemclip_jax.ops.intensity import standardise
from tests.parity.compare import assert_close
from tests.parity.preprocess_case import assert_standardised_alike

FAMILY = "preprocess_mri"


class Recorded:
  """Stands for a random generator; gives the recorded permutation."""

  def __init__(self, order: list[int]):
    self._order = order

  def permutation(self, n: int) -> np.ndarray:
    return np.array(completed(self._order, n))


def completed(order: list[int], n: int) -> list[int]:
  """A permutation of 0 .. n-1 whose beginning is `order`."""
  return order + [i for i in range(n) if i not in order]


def _report(data, study: str) -> list[str]:
  studies = data["cfg.studies"].tolist()
  return str(data["cfg.reports"][studies.index(study)]).split("|")


def _codes(names, like: np.ndarray) -> np.ndarray:
  return np.stack([series_name.codes(str(n), like.shape[-1]) for n in names])


def _series(data, study: str) -> dict[str, np.ndarray]:
  """The study's series by name; its table may leave one out of the folder."""
  pattern = re.compile(rf"in\.{study}\.(.+)\.raw_uint8")
  raw = {m[1]: data[k] for k in data if (m := pattern.fullmatch(k))}
  theirs = data[f"out.{study}.serienames"]
  codes = _codes(raw, theirs)
  return {name: raw[name] for name, code in zip(raw, codes)
          if (theirs == code).all(1).any()}


def _assert_series_agree(data, series: dict, order: np.ndarray, where: str):
  raw, names = np.stack(list(series.values())), list(series)
  assert_close(standardise(raw[order], 0, 255)[:, None],
               data[f"{where}.images"], f"{where}.images")
  theirs = data[f"{where}.serienames"]
  np.testing.assert_array_equal(_codes([names[i] for i in order], theirs),
                                theirs)


def _assert_items_agree(data, items: list[str], where: str, rng=None):
  theirs = data[f"{where}.items"]
  texts, mask, _ = items_lib.fill_slots(items, len(theirs), rng)
  assert texts == theirs.tolist()
  np.testing.assert_array_equal(mask, data[f"{where}.textmask"] > 0)


def test_evaluation_repeats_whole_rounds(data):
  assert_standardised_alike(data)
  for study in data["cfg.studies"]:
    series = _series(data, study)
    order = repeat_to_fill(np.arange(len(series)),
                           int(data["cfg.default_num_series_eval"]), cut=False)
    _assert_series_agree(data, series, order, f"out.{study}")


def test_evaluation_keeps_the_order_of_items(data):
  for study in data["cfg.studies"]:
    items = _report(data, study)
    assert len(data[f"out.{study}.items"]) == data["cfg.report_cap"]
    _assert_items_agree(data, items, f"out.{study}")
    assert is_normal(items) == data[f"out.{study}.is_normal"].item()


def test_training_repeats_one_permutation_and_cuts(data):
  """The draws are not recorded: they are read off the first round."""
  cases = [m for k in data if (m := re.fullmatch(
      r"(out\.(.+)\.train(\d+))\.images", k))]
  assert cases
  for where, study, slots in (m.groups() for m in cases):
    series = _series(data, study)
    theirs = data[f"{where}.serienames"][:len(series)]
    first = [int((_codes(series, theirs) == row).all(1).argmax())
             for row in theirs]
    order = repeat_to_fill(
        np.array(completed(first, len(series))), int(slots), cut=True)
    _assert_series_agree(data, series, order, where)

    items = _report(data, study)
    drawn = [items.index(t) for t, real in zip(
        data[f"{where}.items"], data[f"{where}.textmask"]) if real]
    _assert_items_agree(data, items, where, Recorded(drawn))


def test_names_and_numbered_lists_agree(data):
  theirs = data["out.chartovec"]
  np.testing.assert_array_equal(
      _codes(data["cfg.chartovec_names"], theirs), theirs)
  ours = reports.numbered_items(str(data["cfg.processreport_text"]))
  assert ours == data["out.processreport_items"].tolist()

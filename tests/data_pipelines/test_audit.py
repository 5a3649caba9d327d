"""What the audit counts and draws, by hand."""

import numpy as np

from data_pipelines.audit import examine
from data_pipelines.audit import pictures
from data_pipelines.audit import statistics
from itemclip_jax.data import record
from tests.data_pipelines import fake_set
from tests.data_pipelines.fake_set import IPR, SHAPE


def test_the_thumbnail_shows_the_slice_with_most_lesion():
  mask = np.zeros((2, *SHAPE), np.uint8)
  mask[0, 1, :7] = 1                   # largest, but series 0 does not show it
  mask[1, 3, 2:4, 5] = 1
  mask[1, 2, 0, 0] = 2
  plain = fake_set.study("s")
  study = plain | {
      "volume": np.repeat(plain["volume"], 2, 0), "lesion_mask": mask,
      "affine": np.stack([IPR, IPR]), "orientation": ["IPR", "IPR"],
      "series_names": ["AX_T1", "AX_T2"], "items": ["Mass.", "Cyst."],
      "item_visible": np.array([[0, 1], [1, 1]], np.uint8)}
  contract = record.Contract(
      modality="MRI", dtype="uint8", intensity="", orientation={},
      resize=SHAPE, shape=SHAPE, dataset="", records="", recipe={})
  thumb = pictures.thumbnail(study, contract, "test")
  assert thumb.where == "test · AX_T2 · slice 3" and thumb.text == "Mass."
  # IPR: the columns run to the patient's right, which belongs on the left.
  assert np.argwhere(thumb.lesion).tolist() == [[2, 2], [3, 2]]
  np.testing.assert_array_equal(thumb.pixels, study["volume"][1, 3, :, ::-1])
  thumb = pictures.thumbnail(
      study | {"lesion_mask": mask * 0}, contract, "test")
  assert thumb.where == "test · AX_T1 · slice 2" and thumb.lesion is None


def test_the_thumbnail_of_a_picture_shows_its_largest_outline():
  mask = np.zeros((20, 30), np.uint8)
  mask[1:3, 1:3], mask[5:9, 20:29] = 1, 2
  study = fake_set.picture("p", items=["A cat.", "A bus."],
                           lesion_mask=fake_set.encoded(mask))
  contract = record.Contract(**fake_set.RGB, dataset="", records="",
                             recipe={})
  thumb = pictures.thumbnail(study, contract, "test")
  assert thumb.text == "A bus." and thumb.where == "test · 30 × 20"
  np.testing.assert_array_equal(thumb.lesion, mask > 0)


def test_histograms_by_hand():
  grey = examine.histogram(np.array([[0, 255], [255, 3]], np.uint8))
  assert grey[[0, 3, 255]].tolist() == [1, 1, 2] and grey.sum() == 4
  hu = examine.histogram(np.array([-3000, -2048, -1, 0, 15, 16, 9000], "int16"))
  edges = examine.HU_EDGES
  assert {int(edges[i]): int(hu[i]) for i in np.flatnonzero(hu)} == {
      -2048: 2, -16: 1, 0: 2, 16: 1, int(edges[-1]): 1}


def test_rare_texts_are_forgotten_before_memory_runs_out(monkeypatch):
  monkeypatch.setattr(statistics, "MAX_TEXTS", 2)
  totals = statistics.Totals({}, max_words=9)
  for items in (["a", "b"], ["a", "c"], ["a"]):
    totals._add_items(items)  # pylint: disable=protected-access
  assert totals.item_summary()["frequent"] == [("a", 3)]
  assert not totals.item_summary()["counts_are_exact"]

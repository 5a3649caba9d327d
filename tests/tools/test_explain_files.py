"""What is written of a study of any kind: places, overlays, pictures, page."""

import json
import types

import nibabel as nib
import numpy as np

from itemclip_jax.tools import explain, explain_files
from itemclip_jax.tools.study_files import one_study, place


def _made_up(**changes):
  """A study of two series of MRI, its originals not at hand."""
  affine = np.array([[0, 0, -2.0, 10], [0, -2, 0, 20], [5, 0, 0, -30],
                     [0, 0, 0, 1]])
  case = dict(
      name="s", series_names=("AX_T1", "AX/T2"),
      volume=np.random.default_rng(0).integers(
          0, 255, (2, 6, 12, 16)).astype(np.uint8),
      affine=np.stack([affine] * 2), files=(None,) * 2, geometry=(None,) * 2,
      dicom=((),) * 2)
  return one_study.Study(**case | changes)


def _written(out, case, token, patch=(3, 4, 4), text="A <b> & c.",
             warnings=(), window=None):
  """What is written of a study whose attention lies on one token."""
  grid = [n // p for n, p in zip(case.volume.shape[1:], patch)]
  attention = np.full((len(case.volume), *grid), 1e-3, np.float32)
  attention[token] = 0.5
  model = types.SimpleNamespace(
      config=types.SimpleNamespace(vision=types.SimpleNamespace(patch=patch)),
      contract=types.SimpleNamespace(window=window),
      pair_probability=lambda cosine: 0.25)
  replies = [explain.Answer(text, 0.5, 0.125, attention, 0.1, warnings)]
  about = {"checkpoint": "runs/it", "step": 7, "study": "there"}
  explain.write(out, model, case, replies, about, dicom_seg=False)
  return json.loads((out / "scores.json").read_text())["texts"][0]


def _page(out):
  return (out / "index.html").read_text(encoding="utf-8")


def test_words_of_a_report_and_warnings_cannot_break_the_page(tmp_path):
  case = _made_up(notes=("Series <X> is left out.",))
  _written(tmp_path, case, (0, 1, 1, 1), warnings=("10% are <unknown>.",))
  page = _page(tmp_path)
  assert "A &lt;b&gt; &amp; c." in page and "<b>" not in page
  assert "Series &lt;X&gt; is left out." in page
  assert "10% are &lt;unknown&gt;." in page


def test_a_place_is_told_in_words_and_numbers(tmp_path):
  top = _written(tmp_path, _made_up(), (1, 1, 0, 3))["top_token"]
  # Voxel (4, 1.5, 13.5) of a volume around (2.5, 5.5, 7.5).
  assert top["centre_ras_mm"] == [-17, 17, -10]
  assert top["place"].replace("\u00a0", " ") == (
      "12 mm to the patient's left, 8 mm to the front and 8 mm up of the "
      "volume's middle (L 17 A 17 I 10 mm)")
  assert top["series"] == "AX/T2" and top["file_voxel"] is None
  words = place.in_words(np.array([0.0, -3, 4]), np.array([0.2, 0, -0.3]))
  assert words.replace("\u00a0", " ") == (
      "in the middle of the volume (R 0 P 3 S 4 mm)")
  words = place.in_words(np.array([5.0, 0, 0]), np.array([5.0, 0, 0]))
  assert words.startswith("5\u00a0mm to the patient's right of the volume's")


def test_overlays_of_dicom_have_the_grid_of_their_slices(tmp_path):
  grid = np.array([[0, 0, -1.0, 12], [0, -1, 0, 25], [4, 1, 0, -30],
                   [0, 0, 0, 1]])
  case = _made_up(files=(tmp_path,) * 2, geometry=(((9, 30, 40), grid), None))
  row = _written(tmp_path, case, (0, 1, 1, 1))
  assert row["overlays"] == ["01_AX_T1.nii.gz", "01_AX_T2.nii.gz"]
  first, second = (nib.load(tmp_path / name) for name in row["overlays"])
  assert first.shape == (9, 30, 40)
  np.testing.assert_allclose(first.affine, grid, atol=1e-5)
  assert second.shape == case.volume.shape[1:]
  hot = np.unravel_index(first.get_fdata().argmax(), first.shape)
  np.testing.assert_allclose(
      (grid @ [*hot, 1])[:3], row["top_token"]["centre_ras_mm"], atol=2)
  assert all(a <= x < b for x, (a, b) in zip(
      row["top_token"]["file_voxel"], row["top_token"]["file_box"]))


def test_a_file_without_a_known_grid_lends_its_overlay_none(tmp_path):
  file = tmp_path / "img.nii.gz"
  nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), file)
  case = _made_up(files=(file,) * 2)
  name = _written(tmp_path / "out", case, (0, 1, 1, 1))["overlays"][0]
  made = nib.load(tmp_path / "out" / name)
  np.testing.assert_allclose(made.affine, case.affine[0], atol=1e-5)


def test_a_picture_is_explained_without_a_patient(tmp_path):
  case = _made_up(
      series_names=("",), affine=np.eye(4)[None], files=(None,),
      geometry=(None,), dicom=((),), modality="RGB", items=("A <b> & c.",),
      volume=np.zeros((1, 3, 16, 20), np.uint8),
      lesion_mask=np.broadcast_to(np.eye(16, 20) > 0, (1, 3, 16, 20)) * 1,
      item_visible=np.ones((1, 1)))
  row = _written(tmp_path, case, (0, 0, 1, 4), patch=(3, 4, 4))
  assert row["planes"] is None and row["overlays"] == []
  assert row["top_token"]["centre_ras_mm"] is None
  assert row["top_token"]["place"] == (
      "38% of the way down, 90% from left to right")
  page = _page(tmp_path)
  assert page.count("<img ") == 1 and "No planes" not in page
  assert "annotated lesion of the data set" in page


def test_ct_is_shown_through_the_window_of_the_model(tmp_path, monkeypatch):
  seen = []
  for name, figure in (("visualize", "attention_figure"),
                       ("planes", "places_figure")):
    module = getattr(explain_files, name)
    monkeypatch.setattr(
        module, figure, lambda *args, real=getattr(module, figure), **given: (
            seen.append(given["limits"]), real(*args, **given))[1])
  volume = np.full((2, 6, 12, 16), -1000, np.int16)
  _written(tmp_path, _made_up(volume=volume), (0, 0, 0, 0),
           window=(-400.0, 1500.0))
  assert seen == [(-1150.0, 350.0)] * 2


def test_a_tensor_without_a_position_gets_no_planes(tmp_path):
  case = _made_up(affine=np.stack([np.diag([2.0, 1, 1, 1])] * 2))
  row = _written(tmp_path, case, (0, 0, 0, 0))
  assert row["planes"] is None and len(row["overlays"]) == 2
  assert "No planes of the patient: AX_T1" in _page(tmp_path)

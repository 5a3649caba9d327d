"""The attention figure: geometry, labels, and what it refuses."""

import io
import json

from matplotlib.text import Text
import numpy as np
import pytest

from itemclip_jax.tools.figures import heat
from itemclip_jax.tools.figures import slices
from itemclip_jax.tools import visualize

PATCH = (2, 4, 4)
GRID = (3, 4, 5)                                   # d, h, w
SHAPE = tuple(g * p for g, p in zip(GRID, PATCH))  # D, H, W


def _study(num_series=3):
  rng = np.random.default_rng(0)
  attention = rng.uniform(0, 1e-3, (num_series, *GRID))
  attention[1, 2, 1, 3] = 0.5
  lesion = np.zeros((num_series, *SHAPE), bool)
  lesion[:, 1, 4:8, 12:16] = True
  volume = rng.integers(50, 200, (num_series, *SHAPE)).astype(np.uint8)
  names = [f"AX_T{s + 1}" for s in range(num_series)]
  return dict(volume=volume, series_names=names, attention=attention,
              patch=PATCH, lesion_mask=lesion, text="A lesion.", score=0.25)


def _texts(figure):
  return [t.get_text() for t in figure.findobj(Text)]


def test_most_attended_series_comes_first_with_its_share():
  study = _study()
  study["visible"] = np.array([False, True, False])
  texts = _texts(visualize.attention_figure(**study))
  share = study["attention"][1].sum() / study["attention"].sum()
  first = texts.index("1 AX_T2")
  assert texts[first + 1] == f"{share:.0%} of attention"
  assert texts[first + 2] == "shows the lesion"
  assert "“A lesion.”" in texts
  assert any("score 0.250" in t for t in texts)
  assert "slice 5 · top token" in texts and "slice 1 · lesion" in texts


def test_box_outlines_the_top_token_only_where_it_is():
  figure = visualize.attention_figure(**_study())
  boxes = [(i, p.get_bbox().bounds) for i, a in enumerate(figure.axes)
           for p in a.patches]
  # Token (2, 1, 3): rows 4..8, columns 12..16; slices 4 and 5 of series 1.
  assert boxes and all(b == (11.5, 3.5, 4, 4) for _, b in boxes)
  assert all(i < 4 for i, _ in boxes)  # the first row alone


def test_padding_series_are_left_out_and_the_rest_counted():
  study = _study(num_series=4)
  study["series_names"][3] = ""
  study["attention"][3] = 0
  texts = _texts(visualize.attention_figure(**study, max_series=2))
  assert not any(t.startswith(("3 ", "4 ")) for t in texts)
  assert any("1 further series not shown" in t for t in texts)


@pytest.mark.parametrize("score, shown", [(np.nan, "undefined"), (None, "")])
def test_a_score_may_be_undefined_or_absent(score, shown):
  study = _study() | dict(score=score, lesion_mask=None)
  figure = visualize.attention_figure(**study)
  assert any(t.startswith(f"score {shown}".strip()) for t in _texts(figure)
             ) == bool(shown)
  figure.savefig(io.BytesIO(), format="png", dpi=30)


def test_attention_of_zero_can_be_drawn():
  study = _study()
  study["attention"][:] = 0
  figure = visualize.attention_figure(**study)
  assert any("100% attends to nothing" in t for t in _texts(figure))
  figure.savefig(io.BytesIO(), format="png", dpi=30)


def test_upsampling_keeps_token_centres_constants_and_range():
  rng = np.random.default_rng(0)
  odd = (3, 3, 3)                                  # a centre voxel exists
  grid = rng.random((2, 3, 4))
  up = slices.upsample(grid, odd, list(range(6)))
  assert up.shape == (6, 9, 12)
  np.testing.assert_allclose(up[1::3, 1::3, 1::3], grid)
  assert up.min() >= grid.min() and up.max() <= grid.max()
  flat = slices.upsample(np.full((2, 3, 4), 0.3), odd, [0, 5])
  np.testing.assert_allclose(flat, 0.3)


def test_slices_hold_the_top_token_and_the_lesion_before_others():
  attention = np.zeros((6, 2, 2))
  attention[4] = 1.0                               # slices 8 and 9, centre 9
  lesion = np.zeros((12, 4, 4), bool)
  lesion[2, :2] = lesion[3, :1] = True
  pick = lambda n, tissue=np.ones(12, bool): slices.pick_slices(
      attention, (2, 2, 2), lesion, n, tissue=tissue)
  assert pick(1) == [9] and pick(2) == [2, 9]
  assert pick(4) == [2, 7, 9, 11]                  # neighbouring tokens
  assert pick(4, np.arange(12) < 10) == [2, 5, 7, 9]  # 11 shows no anatomy
  assert pick(99) == list(range(12))


def _upright():
  """An affine whose depth runs up, rows back, columns left."""
  affine = np.diag([0.0, 0.0, 0.0, 1.0])
  affine[2, 0], affine[1, 1], affine[0, 2] = 5.0, -1.0, -1.0
  return affine


def test_edges_follow_the_affine():
  affine = _upright()
  # Axial, radiological: the left edge of the picture is the patient's right.
  assert slices.edge_letters(affine, 2) == ("R", "L")
  assert slices.edge_letters(affine, 1) == ("A", "P")
  assert slices.edge_letters(affine, 0) == ("I", "S")
  study = _study() | dict(affine=np.stack([affine] * 3))
  assert {"R", "L", "A", "P"} <= set(_texts(
      visualize.attention_figure(**study)))


def test_pixels_keep_their_millimetres():
  affine = np.diag([5.0, 2.0, 1.0, 1.0])[[2, 1, 0, 3]]  # rows 2 mm, columns 1
  figure = visualize.attention_figure(
      **_study() | dict(affine=np.stack([affine] * 3)))
  assert figure.axes[0].get_aspect() == 2.0


def test_the_contour_runs_at_half_of_the_studys_peak():
  study = _study() | dict(lesion_mask=None)
  study["attention"][0, 2, 1, 3] = 0.2             # too little for a line
  figure = visualize.attention_figure(**study)
  drawn = [(i, c) for i, a in enumerate(figure.axes) for c in a.collections]
  assert {i for i, _ in drawn} == {2, 3}           # slices 4 and 5, row 1
  up = slices.upsample(study["attention"][1], PATCH, [5])[0] / 0.5
  assert "slice 5 · top token" in _texts(figure.axes[3])
  (line,) = figure.axes[3].collections[0].get_paths()
  column, row = line.vertices[:, 0], line.vertices[:, 1]
  between = [np.interp(c, range(SHAPE[2]), up[int(round(r))])
             for c, r in zip(column, row) if r == round(r)]
  np.testing.assert_allclose(between, heat.HALF, atol=1e-6)


@pytest.mark.parametrize("dtype, low", [(np.uint8, 0), (np.int16, -1000)])
def test_black_is_zero_or_air_and_few_bright_voxels_are_no_white(dtype, low):
  series = np.full((10, 10, 10), 150, dtype)
  series[0] = low
  series[5, 5, 5] = 255
  assert heat.grey_limits(series) == (low, 150)
  assert heat.grey_limits(np.full((2, 2, 2), low, dtype)) == (low, low + 1)


def test_a_window_is_kept_for_all_series():
  study = _study() | dict(limits=(-1150.0, 350.0))
  figure = visualize.attention_figure(**study)
  assert {a.images[0].get_clim() for a in figure.axes[:12]} == {(-1150, 350)}


def test_a_series_name_of_one_long_word_is_cut_not_lost():
  study = _study()
  study["series_names"][1] = "AX_T2_FLAIR_PROPELLER_FATSAT"
  texts = _texts(visualize.attention_figure(**study))
  assert "1 AX_T2_FLAIR_PROPELL…" in texts


def test_an_affine_of_the_files_own_axes_gets_no_letters():
  affine = np.diag([2.0, 1.0, 1.0, 1.0])
  assert not slices.is_placed(affine) and not slices.is_placed(np.eye(4))
  assert slices.is_placed(np.diag([2.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]])
  assert slices.is_placed(np.diag([2.0, -1.0, 1.0, 1.0]))
  figure = visualize.attention_figure(
      **_study() | dict(affine=np.stack([affine] * 3)))
  assert not {"R", "L", "A", "P"} & set(_texts(figure))


def _picture():
  rng = np.random.default_rng(0)
  attention = np.full((1, 1, 4, 5), 1e-3)
  attention[0, 0, 1, 3] = 0.8
  return dict(
      volume=rng.integers(0, 256, (1, 3, 16, 20)).astype(np.uint8),
      series_names=[""], attention=attention, patch=(3, 4, 4), text="A cat.",
      score=0.5)


def test_a_picture_is_shown_in_colour_plain_and_under_its_attention():
  x = _picture()
  lesion = np.zeros(x["volume"].shape, bool)
  lesion[..., 4:8, 12:16] = True
  figure = visualize.attention_figure(**x, lesion_mask=lesion,
                                      affine=np.eye(4)[None])
  plain, shown, _ = figure.axes                    # and the colour bar
  for axes in (plain, shown):
    np.testing.assert_array_equal(axes.images[0].get_array(),
                                  x["volume"][0].transpose(1, 2, 0))
  assert len(plain.images) == 1 and not plain.collections
  assert len(shown.images) == 2 and len(shown.collections) == 2
  (box,) = shown.patches
  assert box.get_bbox().bounds == (11.5, 3.5, 4, 4)
  texts = _texts(figure)
  assert "“A cat.”" in texts and "top token of the picture" in texts
  assert not any(t.startswith("slice") or t == "R" for t in texts)


def test_examples_of_an_evaluation_are_drawn_with_what_they_have(tmp_path):
  folder = tmp_path / "figures"
  folder.mkdir()
  whole = _study() | dict(
      affine=np.stack([_upright()] * 3), visible=np.array([True, False, True]),
      group="Surest hits", caption="The top token lies on it.", study_id="s1")
  np.savez(folder / "attention_00.npz", **whole)
  np.savez(folder / "attention_01.npz", **_picture() | dict(caption="Colours."))
  bare = {k: v for k, v in _study().items() if k not in (
      "lesion_mask", "score")}
  np.savez(folder / "attention_02.npz", **bare, lesion_mask=np.zeros(0))
  drawn = visualize.draw_examples(tmp_path)
  assert [p.name for p in drawn] == [f"attention_0{i}.png" for i in range(3)]
  assert all(p.stat().st_size > 1000 for p in drawn)
  assert json.loads((folder / "captions.json").read_text()) == {
      "attention_00.png": {"group": "Surest hits",
                           "caption": "The top token lies on it."},
      "attention_01.png": {"group": "", "caption": "Colours."},
      "attention_02.png": {"group": "", "caption": ""}}


@pytest.mark.parametrize("change, message", [
    (dict(patch=(2, 4, 2)), "want \\[S,D,H,W\\]"),
    (dict(series_names=["one"]), "1 series names"),
    (dict(series_names=["", "", ""]), "all is padding"),
    (dict(lesion_mask=np.zeros((3, 1, 1, 1), bool)), "lesion_mask"),
])
def test_shapes_that_do_not_fit_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    visualize.attention_figure(**_study() | change)


def test_width_towards_the_right_is_mirrored_with_its_affine():
  rng = np.random.default_rng(0)
  volume = rng.integers(0, 255, (2, 2, 4, 6)).astype(np.uint8)
  attention = rng.random((2, 1, 2, 3))
  affine = np.stack([np.eye(4)] * 2)[:, [2, 1, 0, 3]]  # w -> R in both
  affine[1, :3, 2] *= -1                               # w -> L in the second
  shown = slices.radiological(volume, attention, volume > 99, affine)
  np.testing.assert_array_equal(shown[0][0], volume[0, ..., ::-1])
  np.testing.assert_array_equal(shown[1][0], attention[0, ..., ::-1])
  np.testing.assert_array_equal(shown[2][0], volume[0, ..., ::-1] > 99)
  np.testing.assert_array_equal(shown[0][1], volume[1])
  # Voxel 5 is shown at 0, at the same place in the patient.
  np.testing.assert_allclose(shown[3][0] @ [0, 0, 0, 1],
                             affine[0] @ [0, 0, 5, 1])

"""Three planes of the patient: where they lie, what is up, who gets what."""

import io

from matplotlib.text import Text
import numpy as np
import pytest

from itemclip_jax.tools.figures import heat, planes
from itemclip_jax.tools.study_files import overlay

PATCH, GRID = (2, 3, 3), (4, 5, 6)
SHAPE = tuple(p * g for p, g in zip(PATCH, GRID))
TOKEN = (2, 1, 4)


def _affine(turn_degrees=0.0, axes="IPR", mm=(6.0, 2.0, 3.0)):
  """Stored (d, h, w) -> RAS mm, turned about the RAS x axis."""
  out = np.zeros((4, 4))
  for column, (letter, step) in enumerate(zip(axes, mm)):
    row = next(i for i, pair in enumerate(("LR", "PA", "IS"))
               if letter in pair)
    out[row, column] = step if letter in "RAS" else -step
  out[:, 3] = 31.0, -17.0, 8.0, 1.0
  c, s = np.cos(np.radians(turn_degrees)), np.sin(np.radians(turn_degrees))
  turn = np.eye(4)
  turn[1:3, 1:3] = [[c, -s], [s, c]]
  return turn @ out


def _study(num_series=3, affine=None):
  attention = np.zeros((num_series, *GRID), np.float32)
  attention[0] = 1e-3
  attention[(1, *TOKEN)] = 0.5
  volume = np.full((num_series, *SHAPE), 50, np.uint8)
  volume[1, 4:6, 3:6, 12:15] = 250                   # the token's own box
  affine = _affine() if affine is None else affine
  return dict(volume=volume, attention=attention, patch=PATCH,
              series_names=[f"AX_T{s + 1}" for s in range(num_series)],
              affine=np.stack([affine] * num_series))


def _texts(axes):
  return [t.get_text() for t in axes.findobj(Text) if t.get_text()]


@pytest.mark.parametrize("axes", ["IPR", "PIR", "RIP", "SPL"])
@pytest.mark.parametrize("turn_degrees", [0.0, 25.0])
def test_lines_cross_in_the_top_token_and_there_the_image_is_its_own(
    axes, turn_degrees):
  affine = _affine(turn_degrees, axes)
  figure = planes.places_figure(**_study(affine=affine))
  centre = (affine @ [*overlay.token_centre(TOKEN, PATCH), 1])[:3]
  for panel, order in zip(figure.axes, planes.PLANES.values()):
    across, along = panel.collections[-2:]           # vlines, hlines
    column = across.get_segments()[0][0, 0]
    row = along.get_segments()[0][0, 1]
    grid = planes.plane(SHAPE, affine, centre, order)
    np.testing.assert_allclose((grid.affine @ [0, row, column, 1])[:3], centre,
                               atol=1e-6)
    anatomy, colour = (np.asarray(i.get_array()) for i in panel.images)
    at = round(row), round(column)
    # Half a pixel off at most, the box is two pixels wide or more.
    assert anatomy[at] > 150 and anatomy.shape == grid.shape[1:]
    assert colour[at] > heat.HALF and colour.max() <= 1
    assert colour[at] > 0.8 * colour.max()


def test_letters_are_the_patients_and_the_right_is_on_the_left():
  figure = planes.places_figure(**_study(affine=_affine(25.0, "PIR")))
  wanted = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
  for panel, (name, letters) in zip(figure.axes, wanted.items()):
    assert any(t.startswith(f"{name}  ") for t in _texts(panel))
    at = {t.get_text(): t.get_position() for t in panel.texts}
    left, right, top, bottom = (at[letter] for letter in letters)
    assert left[0] < right[0] and top[1] > bottom[1]


def test_a_place_on_the_patients_right_is_drawn_on_the_left():
  """By a volume whose voxels on the right are bright."""
  study = _study(affine=_affine(0.0, "SPL"))         # w runs to the left
  study["volume"][1, :, :, :4] = 255                 # so these lie on the right
  axial = planes.places_figure(**study).axes[0].images[0].get_array()
  assert axial[:, :3].mean() > 200 and axial[:, -3:].mean() < 100


def test_millimetres_are_square_and_of_one_scale():
  figure = planes.places_figure(**_study())
  D, H, W = np.multiply(SHAPE, (6.0, 2.0, 3.0))      # S, A, R
  inches = [np.multiply(a.get_position().size, figure.get_size_inches())
            for a in figure.axes[:3]]
  for (width, height), (along, down) in zip(
      inches, ((W, H), (W, D), (H, D))):
    np.testing.assert_allclose([width / inches[0][0], height / inches[0][0]],
                               [along / W, down / W], rtol=0.05)  # whole pixels


def test_bars_say_who_gets_how_much_largest_first():
  figure = planes.places_figure(**_study())
  names = [t.get_text() for t in figure.axes[3].get_yticklabels()]
  assert names == ["AX_T2", "AX_T1", "AX_T3"]
  share = 0.5 / (0.5 + 0.001 * np.prod(GRID))
  assert f"{share:.0%}" in _texts(figure.axes[3])
  widths = [p.get_width() for p in figure.axes[3].patches]
  np.testing.assert_allclose(widths, [share, 1 - share, 0], atol=1e-6)


def test_many_series_share_a_last_bar_and_a_single_one_has_none():
  figure = planes.places_figure(**_study(num_series=12))
  names = [t.get_text() for t in figure.axes[3].get_yticklabels()]
  assert len(names) == planes.MAX_BARS + 1 and names[-1] == "4 others"
  study = _study(num_series=2)
  alone = {name: study[name][1:] for name in (
      "volume", "attention", "series_names", "affine")}
  assert len(planes.places_figure(**study | alone).axes) == 4  # with the foot
  assert len(figure.axes) == 5


def test_a_lesion_is_outlined_where_it_is():
  study = _study()
  lesion = np.zeros(study["volume"].shape, bool)
  lesion[1, 4:6, 3:6, 12:15] = True
  figure = planes.places_figure(**study, lesion_mask=lesion)
  assert "annotated lesion" in [t.get_text() for t in figure.findobj(Text)]
  centre = lambda c: np.concatenate(
      [p.vertices for p in c.get_paths()]).mean(0)
  for panel in figure.axes[:3]:
    half, outline, across, along = panel.collections
    cross = (across.get_segments()[0][0, 0], along.get_segments()[0][0, 1])
    np.testing.assert_allclose(centre(outline), cross, atol=1.0)
    np.testing.assert_allclose(centre(half), cross, atol=1.5)


def test_without_a_place_in_the_patient_there_are_no_planes():
  assert planes.places_figure(**_study(affine=np.diag([2.0, 3, 3, 1]))) is None


def test_attention_of_zero_and_negative_numbers_can_be_drawn():
  study = _study()
  study["attention"][:] = 0
  study["volume"] = study["volume"].astype(np.int16) - 1000
  figure = planes.places_figure(**study, limits=(-1150.0, 350.0))
  assert figure.axes[0].images[0].get_clim() == (-1150, 350)
  figure.savefig(io.BytesIO(), format="png", dpi=30)

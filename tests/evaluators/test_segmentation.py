"""Attention against outlines: by hand, by voxels, and under padding."""

import itertools

import numpy as np
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import metrics
from itemclip_jax.evaluators import segmentation
from tests.evaluators import attending
from tests.evaluators.attending import Study

GLIOMA = {"text": "Glioma.", "series": "flair|t2f", "top_tokens": 2}
MAP = np.array([[[[0.0, 0.1], [0.1, 0.0]]], [[[0.5, 0.2], [0.0, 0.1]]]])


def _finding(**changes):
  """Finding 0 ('mass') as item 1, outlined in one token, shown by series 1."""
  return Study(**dict(dict(
      names=["AX_T1", "AX_FLAIR"], items=["normal ventricles", "a mass"],
      boxes={1: [(0, 0)]}, finding={1: 0}, shown={1: [1]}), **changes))


def _evaluator(studies, maps, tcsim=None, **kwargs):
  return segmentation.Evaluator(attending.context(
      studies, attending.Scorer(maps, tcsim), "segmentation", **kwargs))


def _numbers(studies, maps, **kwargs):
  return attending.numbers(segmentation, _evaluator(studies, maps, **kwargs),
                           "segmentation")


def test_a_finding_by_hand():
  """Its two prompts look elsewhere; their mean has its peak on the lesion."""
  maps = {(0, "a mass"): MAP, (0, "there is a mass"): MAP[:, :, ::-1]}
  got = _numbers(attending.Studies([_finding()]), maps)
  # The mean over prompts, series 1: [[0.25, 0.15], [0.25, 0.15]].
  assert got["pointing/top1"] == pytest.approx(0.5)        # two equal maxima
  assert got["pointing/chance"] == pytest.approx(1 / 8)
  assert got["pointing/series_top1"] == 1.0
  assert got["pointing/series_chance"] == 0.5
  assert got["segmentation/iou"] == 1.0                    # the first of equals
  assert got["segmentation/dice"] == 1.0
  assert got["segmentation/dice_chance"] == pytest.approx(0.25)
  two = _numbers(attending.Studies([_finding()]), maps, top_tokens=2)
  assert two["segmentation/iou"] == pytest.approx(1 / 2)
  assert two["segmentation/dice"] == pytest.approx(2 / 3)


def test_the_table_names_every_finding_in_record_order():
  both = _finding(items=["bleed", "a mass"], boxes={0: [(1, 1)], 1: [(0, 0)]},
                  finding={0: 2, 1: 0}, shown={0: [0], 1: [1]})
  nothing = Study(names=["AX_T1"], items=["Study is unremarkable"])
  studies = attending.Studies([_finding(), nothing, both],
                              patients=["p", "q", "p"])
  table = _evaluator(studies, attending.random_maps(
      studies, _prompts())).collect()
  assert table["study_id"].tolist() == ["study-0", "study-2", "study-2"]
  assert table["patient_id"].tolist() == ["p", "p", "p"]
  assert table["record"].tolist() == [0, 2, 2]
  assert table["finding"].tolist() == ["mass", "bleed", "mass"]
  assert table["item"].tolist() == ["a mass", "bleed", "a mass"]
  assert table["slot"].tolist() == [1, 0, 1]
  assert {len(column) for column in table.values()} == {3}


def test_agrees_with_voxels_counted_one_by_one():
  rng = np.random.default_rng(1)
  studies = attending.Studies([_random_study(rng) for _ in range(24)])
  maps = attending.random_maps(studies, _prompts())
  table = _evaluator(studies, maps, top_tokens=2).collect()
  want = _by_voxels(studies, maps, k=2)
  for name, column in want.items():
    np.testing.assert_allclose(table[name], column, err_msg=name)
  got = _numbers(studies, maps, top_tokens=2)
  assert got["pointing/series_top1"] == np.nanmean(want["series_top1"])
  assert got["segmentation/dice"] == pytest.approx(np.mean(want["dice"]))


def test_chance_of_iou_draws_from_one_generator_in_order():
  rng = np.random.default_rng(2)
  studies = attending.Studies([_random_study(rng) for _ in range(3)])
  maps = attending.random_maps(studies, _prompts())
  table = _evaluator(studies, maps, seed=5).collect()
  rng, want = np.random.default_rng(5), []
  for row, k, best in _best_series(studies, maps):
    want.append(metrics.expected_token_iou(
        studies.example(row)["lesion_mask"][best] == k + 1, attending.GRID, 1,
        rng=rng, num_draws=50))
  np.testing.assert_array_equal(table["iou_chance"], want)


def test_padded_series_change_nothing():
  rng = np.random.default_rng(3)
  records = [_random_study(rng) for _ in range(6)]
  for options in (None, GLIOMA | {"series": "S1"}):
    plain, padded = (_all_columns(attending.Studies(records, padding=p),
                                  options=options) for p in (0, 3))
    assert plain.keys() == padded.keys()
    for name, column in plain.items():
      np.testing.assert_array_equal(column, padded[name], err_msg=name)


def test_what_no_series_shows_is_left_out_and_said(capsys):
  """Not outlined where it is shown, or not shown at all."""
  studies = attending.Studies(
      [_finding(boxes={}), _finding(shown={1: []}), _finding()])
  evaluator = _evaluator(studies, attending.random_maps(studies, _prompts()))
  assert evaluator.collect()["record"].tolist() == [2]
  assert evaluator.meta()["left_out"] == 2
  assert "1 measured; 2 have no outline" in capsys.readouterr().out


def test_where_every_series_shows_it_only_the_series_is_undefined():
  studies = attending.Studies([_finding(shown={1: [0, 1]})])
  got = _numbers(studies, attending.random_maps(studies, _prompts()))
  undefined = {name for name, value in got.items() if np.isnan(value)}
  assert undefined == {"pointing/series_top1", "pointing/series_chance"}


@pytest.mark.parametrize("options", [None, GLIOMA])
def test_nothing_outlined_is_undefined(options):
  studies = attending.Studies([Study(names=["AX_FLAIR"])])
  maps = attending.random_maps(studies, _prompts())
  evaluator = _evaluator(studies, maps, options=options)
  got = attending.numbers(segmentation, evaluator, "brats")
  assert len(got) == 8 and np.isnan(list(got.values())).all()
  assert evaluator.examples(evaluator.collect()) == []


def test_the_pictures_are_the_first_finding_of_each_kind():
  left = _finding(finding={1: 1})            # "mass, left" is a mass as well
  bleed = _finding(finding={1: 2}, shown={1: [0]})
  studies = attending.Studies([left, _finding(), bleed])
  evaluator = _evaluator(
      studies, {(row, t): MAP for row in range(3) for t in _prompts()},
      {(0, "mass on the left"): 0.25, (2, "a bleed"): 0.5})
  mass, other = evaluator.examples(evaluator.collect())
  assert (mass.row, mass.text, mass.score) == (0, "mass on the left", 0.25)
  assert (other.row, other.text, other.score) == (2, "a bleed", 0.5)
  assert mass.group == other.group == "Where it looks"
  assert "lies on the lesion (study study-0)" in mass.caption
  assert "misses the lesion (study study-2)" in other.caption
  assert mass.lesion_mask.sum() == 8 and mass.visible.tolist() == [False, True]
  assert set(evaluator.prompts) >= {mass.text, other.text}


def test_a_prompt_set_by_hand():
  """Two tumour tokens; the top two of FLAIR cover one, T1 has the peak."""
  tumour = Study(names=["AX_t1n", "AX_t2f"], items=["Glioma."],
                 boxes={0: [(0, 0), (1, 0)]}, finding={0: 0}, shown={0: [1]})
  maps = {(0, "Glioma."): [[[[0.1, 0.4], [0.1, 0.0]]],
                           [[[0.2, 0.1], [0.0, 0.05]]]]}
  got = _named_numbers([tumour], maps, GLIOMA)
  assert got["brats/iou"] == pytest.approx(1 / 3)
  assert got["brats/dice"] == pytest.approx(1 / 2)
  assert got["brats/dice_chance"] == pytest.approx(1 / 2)
  assert got["brats/pointing"] == 1.0
  assert got["brats/pointing_chance"] == 0.5
  assert got["brats/study_pointing"] == 0.0
  assert got["brats/study_pointing_chance"] == 0.5
  # Of 6 pairs of tokens one is the tumour, one misses it, 4 cover half.
  assert got["brats/iou_chance"] == pytest.approx((1 + 4 / 3) / 6, abs=0.1)


def test_a_prompt_set_takes_the_first_series_that_matches(capsys):
  both = _finding(names=["COR_T2_FLAIR", "AX_flair"])
  none = _finding(names=["AX_T1", "AX_T2"])
  normal = Study(names=["AX_T1", "AX_FLAIR"], items=["unremarkable"])
  studies = attending.Studies([none, both, normal])
  evaluator = _evaluator(studies, attending.random_maps(studies, ["Glioma."]),
                         options=GLIOMA)
  table = evaluator.collect()
  assert table["record"].tolist() == [1]
  assert table["series"].tolist() == ["COR_T2_FLAIR"]
  assert evaluator.meta() == {"text": "Glioma.", "series": "flair|t2f",
                              "top_tokens": 2, "left_out": 2}
  assert "1 measured; 2 have no outline" in capsys.readouterr().out


def test_the_pictures_of_a_prompt_set_are_its_best_and_its_worst():
  studies = attending.Studies([_finding() for _ in range(8)])
  maps = {}
  for row, share in enumerate([.1, .8, .3, .2, .9, .4, .7, .6]):
    maps[row, "Glioma."] = [np.zeros(attending.GRID),
                            [[[share, 0.5], [0.25, 0.24]]]]
  evaluator = _evaluator(studies, maps, {(4, "Glioma."): 0.75}, options=GLIOMA)
  table = evaluator.collect()
  examples = evaluator.examples(table)
  assert [x.group for x in examples] == ["Best overlap"] * 3 + [
      "Worst overlap"] * 3
  best, worst = ([x.row for x in examples if x.group == group]
                 for group in ("Best overlap", "Worst overlap"))
  np.testing.assert_allclose(
      table["dice"], [0, 2/3, 2/3, 0, 2/3, 2/3, 2/3, 2/3])
  assert best == [1, 2, 4] and worst == [3, 0, 7]
  assert examples[2].score == 0.75
  assert "IoU 0.50, Dice 0.67 in AX_FLAIR" in examples[0].caption
  assert examples[0].visible.tolist() == [False, True]


@pytest.mark.parametrize("options, says", [
    ({"series": "flair("}, "no regular expression"),
    ({"top_tokens": 30}, "counts the 30 most attended tokens of a series, and "
                         "this model has 4"),
])
def test_a_prompt_set_that_cannot_be_measured(options, says):
  studies = attending.Studies([_finding()])
  with pytest.raises(UserError, match=says):
    _evaluator(studies, {}, options=GLIOMA | options)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_chance_of_dice_is_the_mean_over_all_choices_of_tokens(k):
  mask = np.zeros(attending.VOXELS, bool)
  mask[0, 1:4, 1:3] = True
  each = []
  for tokens in itertools.combinations(range(4), k):
    weights = np.isin(np.arange(4), tokens).reshape(attending.GRID)
    each.append(metrics.token_dice(weights.astype(float), mask, k))
  assert segmentation.expected_token_dice(
      mask, attending.GRID, k) == pytest.approx(np.mean(each))
  assert np.isnan(segmentation.expected_token_dice(
      np.zeros_like(mask), attending.GRID, k))


def _named_numbers(records, maps, options):
  evaluator = segmentation.Evaluator(attending.context(
      attending.Studies(records), attending.Scorer(maps), "brats",
      options=options))
  return attending.numbers(segmentation, evaluator, "brats")


def _prompts() -> list[str]:
  return [t for f in attending.FINDINGS.values() for t in f["prompts"]] + [
      "Glioma."]


def _random_study(rng) -> Study:
  """One to three series, two items, each shown in some of them."""
  total = int(rng.integers(1, 4))
  some = lambda n: np.flatnonzero(rng.random(n) < 0.6).tolist()
  places = [(h, w) for h in range(2) for w in range(2)]
  return Study(
      names=[f"S{i}" for i in range(total)], items=["one", "two"],
      boxes={k: [places[i] for i in some(4)] for k in range(2)},
      finding={k: int(rng.integers(3)) for k in range(2)},
      shown={k: some(total) for k in range(2)})


def _all_columns(studies, options):
  """Of the real series, the same attention whatever the padding."""
  maps = attending.random_maps(studies, _prompts())
  return _evaluator(studies, maps, options=options).collect()


def _mean_map(maps, row, finding):
  prompts = list(attending.FINDINGS.values())[finding]["prompts"]
  return np.mean([maps[row, t] for t in prompts], axis=0)


def _best_series(studies, maps):
  """Yields (study, item, series): of those that show it, most attended."""
  for row in range(len(studies)):
    example = studies.example(row)
    for k in np.flatnonzero(example["item_finding"] >= 0):
      shows = np.flatnonzero(example["item_visible"][k])
      if any((example["lesion_mask"][s] == k + 1).any() for s in shows):
        total = _mean_map(maps, row, example["item_finding"][k]).sum((1, 2, 3))
        yield row, k, max(shows, key=lambda s: total[s])


def _by_voxels(studies, maps, k) -> dict[str, list[float]]:
  """Every token is blown up to its voxels; no helper of the package."""
  values = {name: [] for name in ("top1", "chance", "series_top1", "iou",
                                  "dice")}
  for row, item, best in _best_series(studies, maps):
    example = studies.example(row)
    weights = _mean_map(maps, row, example["item_finding"][item])
    lesion = example["lesion_mask"][:len(weights)] == item + 1
    shows = example["item_visible"][item][:len(weights)]
    hit = [bool(shows[s] and lesion[s, 0, 2*h:2*h+2, 2*w:2*w+2].any())
           for s in range(len(weights)) for h in range(2) for w in range(2)]
    values["top1"].append(hit[int(weights.argmax())])
    values["chance"].append(np.mean(hit))
    first = weights.sum((1, 2, 3)).argmax()
    values["series_top1"].append(np.nan if shows.all() else shows[first])
    chosen = np.zeros(4, bool)
    chosen[np.argsort(weights[best].ravel())[-k:]] = True
    called = np.kron(chosen.reshape(2, 2), np.ones((2, 2), bool))
    inside = (called & lesion[best, 0]).sum()
    total = called.sum() + lesion[best, 0].sum()
    values["iou"].append(inside / (total - inside))
    values["dice"].append(2 * inside / total)
  return values

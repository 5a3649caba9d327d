"""The chest phantom: Hounsfield units, places and reports agree."""

import numpy as np
import pytest

from data_pipelines.datasets import phantom_chest
from data_pipelines.phantom import anatomy as grid_lib
from data_pipelines.phantom import chest_anatomy as anatomy
from data_pipelines.phantom import chest_findings as findings
from data_pipelines.phantom import chest_places as places
from data_pipelines.phantom import chest_report as report

GRID = grid_lib.Grid((64, 64, 48), (5.0, 5.0, 6.0), np.zeros(3))
KINDS = {kind.name: kind for kind in findings.KINDS}


def _finding(name: str, place: int = 0, seed: int = 0) -> findings.Finding:
  kind = KINDS[name]
  return findings.Finding(
      kind, kind.places[place], float(np.mean(kind.size_mm)), seed)


def _painted(*found: findings.Finding, seed: int = 0, grid=GRID):
  subject = findings.subject_of(np.random.default_rng(seed), list(found))
  return findings.paint(subject, list(found), grid)


def _mm(extent: np.ndarray, grid=GRID) -> np.ndarray:
  """RAS mm of the masked voxels, [n, 3]."""
  index = np.argwhere(extent)
  return np.stack([l[i] for l, i in zip(grid.lines(), index.T)], axis=1)


def _many(num: int) -> list[list[findings.Finding]]:
  return [findings.draw_findings(np.random.default_rng(seed), 5)
          for seed in range(num)]


def test_tissues_have_the_hounsfield_units_of_textbooks():
  chest, _ = _painted()
  for name, low, high in (
      ("outside", -1000, -1000), ("trachea", -1000, -950), ("fat", -120, -80),
      ("right lung", -880, -740), ("left lung", -880, -740),
      ("heart", 30, 60), ("liver", 50, 70), ("muscle", 40, 60),
      ("ribs", 300, 1000), ("vertebrae", 150, 400)):
    inside = chest.hu[chest.labels == anatomy.LABEL[name]]
    assert inside.size > 20, name
    assert low <= inside.min() and inside.max() <= high, name


def test_organs_lie_where_they_belong():
  for seed in range(5):
    chest, _ = _painted(seed=seed)
    centre = {name: _mm(chest.labels == value).mean(axis=0)
              for name, value in anatomy.LABEL.items()}
    assert centre["right lung"][0] > 40 and centre["left lung"][0] < -40
    assert centre["heart"][0] < -5 and centre["stomach"][0] < -20
    assert centre["liver"][0] > 20 and centre["spleen"][0] < -40
    assert centre["vertebrae"][1] < -50 < 0 < centre["heart"][1]
    assert centre["liver"][2] < centre["heart"][2] < centre["trachea"][2]
    right, left = (np.sum(chest.labels == anatomy.LABEL[f"{side} lung"])
                   for side in anatomy.SIDES)
    assert 1.0 < right / left < 1.6


@pytest.mark.parametrize("name", [
    "pleural effusion", "emphysema", "lung opacity", "consolidation",
    "lung nodule"])
def test_a_finding_lies_on_the_side_that_it_names(name):
  for place in range(len(KINDS[name].places)):
    finding = _finding(name, place)
    chest, (extent,) = _painted(finding)
    x = _mm(extent)[:, 0] - chest.subject.centre_mm[0]
    side = {"left": -1, "right": 1}[finding.place.side]
    assert len(x) > 15 and (side * x > 0).all(), finding.place.name


def test_effusion_sinks_to_the_back_and_the_base():
  chest, (extent,) = _painted(_finding("pleural effusion"))
  lung = _mm((chest.labels == anatomy.LABEL["left lung"]) & ~extent)
  fluid = _mm(extent)
  assert fluid[:, 1].mean() < lung[:, 1].mean() - 40
  assert fluid[:, 2].mean() < lung[:, 2].mean() - 15
  assert np.unique(chest.hu[extent]) == findings.FLUID_HU


def test_lobes_share_each_lung_without_overlap():
  chest, _ = _painted()
  for side in anatomy.SIDES:
    lobes = [p for p in places.LOBES if p.side == side]
    parts = sum(chest.lung(p).astype(int) for p in lobes)
    assert len(lobes) == {"left": 2, "right": 3}[side]
    np.testing.assert_array_equal(
        parts, chest.labels == anatomy.LABEL[f"{side} lung"])
    height = {p.region: _mm(chest.lung(p)).mean(axis=0) for p in lobes}
    assert height["upper lobe"][2] > height["lower lobe"][2] + 30
    if side == "right":  # the middle lobe lies in front
      assert height["middle lobe"][1] > height["lower lobe"][1] + 30


def test_findings_have_their_hounsfield_units():
  for name, low, high in (
      ("lung nodule", -120, 40), ("consolidation", -60, 40),
      ("lung opacity", -460, -360), ("emphysema", -965, -900),
      ("pericardial effusion", 8, 8), ("cardiomegaly", 30, 60),
      ("arterial wall calcification", 1300, 1300),
      ("coronary artery wall calcification", 1300, 1300)):
    for place in range(len(KINDS[name].places)):
      chest, (extent,) = _painted(_finding(name, place))
      assert low <= chest.hu[extent].mean() <= high, (name, place)


def test_cardiomegaly_passes_half_of_the_chest_and_health_does_not():
  for seed in range(8):
    ratio = []
    for found in ([], [_finding("cardiomegaly")]):
      chest, _ = _painted(*found, seed=seed)
      heart = np.ptp(_mm(chest.labels == anatomy.LABEL["heart"])[:, 0])
      ratio.append(heart / np.ptp(_mm(anatomy.is_lung(chest.labels))[:, 0]))
    assert ratio[0] < 0.5 < ratio[1], (seed, ratio)


def test_calcium_lies_at_its_vessel():
  grid = phantom_chest.GRID
  for place, part in enumerate(places.AORTA_PARTS):
    chest, (extent,) = _painted(
        _finding("arterial wall calcification", place), grid=grid)
    aorta = chest.labels == anatomy.LABEL["aorta"]
    near = np.pad(aorta, 1)
    near = np.any([np.roll(near, s, a) for a in range(3) for s in (-1, 0, 1)],
                  axis=0)[1:-1, 1:-1, 1:-1]
    assert near[extent].mean() > 0.85, part
    assert (aorta & ~extent).sum() > extent.sum()  # the lumen stays free
  for place, artery in enumerate(places.CORONARIES):
    chest, (extent,) = _painted(
        _finding("coronary artery wall calcification", place), grid=grid)
    offset = _mm(extent, grid) - chest.subject.heart_mm
    radius = np.linalg.norm(offset @ chest.subject.heart_axes().T, axis=1)
    assert radius.min() > 0.7 and radius.max() < 1.4, artery
    assert np.sign(offset[:, 0].mean()) == (1 if "right" in artery else -1)


def test_a_place_is_taken_once_and_a_kind_comes_once():
  for found in _many(60):
    held = [h for f in found for h in f.place.holds]
    assert len(set(held)) == len(held) and len(found) >= 4
    assert len({f.kind.name for f in found}) == len(found)


def test_every_item_tells_its_finding_and_its_side():
  for seed, found in enumerate(_many(150)):
    items, about = report.write(np.random.default_rng(seed), found)
    for finding, k in zip(found, about):
      text = items[k].lower()
      other = {"left": "right", "right": "left"}.get(finding.place.side)
      assert other is None or other not in text, text
      assert any(p.lower() in text or p.split(" ", 1)[-1].lower() in text
                 for p in report.PHRASES[finding.kind.name]), text
      assert text == text.strip() and text.endswith(".")
      assert "none" not in text and "{" not in text


def test_every_finding_has_several_phrasings():
  for kind in findings.KINDS:
    texts = {report.describe(np.random.default_rng(seed),
                             findings.Finding(kind, kind.places[0], 30.0, 0))
             for seed in range(80)}
    assert len(texts) >= 10, kind.name


def test_no_prompt_is_a_sentence_of_a_report():
  said = {item.lower().rstrip(".") for seed, found in enumerate(_many(200))
          for item in report.write(np.random.default_rng(seed), found)[0]}
  prompts = [p for f in report.findings().values() for p in f["prompts"]]
  assert len(set(prompts)) == 2 * len(report.findings())
  assert not said & {p.lower().rstrip(".") for p in prompts}


def test_labels_follow_every_level_of_a_finding():
  labels = report.labels([_finding("consolidation", 1)])
  assert {name for name, on in labels.items() if on} == {
      "consolidation", "consolidation, left side",
      "consolidation, left lower lobe"}
  labels = report.labels([_finding("pleural effusion", 1)])
  assert {name for name, on in labels.items() if on} == {
      "pleural effusion", "pleural effusion, right side"}

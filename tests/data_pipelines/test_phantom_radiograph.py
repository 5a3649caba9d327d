"""The radiograph phantom: pictures, masks, reports, triplets and gaze agree."""

import hashlib
import io
import re

import numpy as np
from PIL import Image
import pytest

from data_pipelines import datasets, pictures, prepare
from data_pipelines.errors import PrepareError
from data_pipelines.phantom import radiograph_findings as findings
from data_pipelines.phantom import radiograph_gaze as gaze
from data_pipelines.phantom import radiograph_picture as picture
from data_pipelines.phantom import radiograph_report as report
from itemclip_jax.data import image, record
from tests.data_pipelines import picture_files as files

GRID = picture.grid(64)
KINDS = {kind.name: kind for kind in findings.KINDS}
SIZES = {"num_train": 8, "num_valid": 1, "num_test": 3}
LUNG = (slice(12, 30), slice(38, 52))   # rows and columns in the left one


def _finding(name: str, place: int = 0, grade: int = 1) -> findings.Finding:
  kind = KINDS[name]
  return findings.Finding(kind, kind.places[place], grade,
                          float(np.mean(kind.size[grade])), seed=3)


def _exposed(*found: findings.Finding, seed: int = 0):
  """Picture as numbers, and the shadow of each finding."""
  subject = findings.subject_of(np.random.default_rng(seed), list(found))
  hu, extents = findings.paint(subject, list(found), GRID)
  pixels = picture.expose(np.random.default_rng(1), hu, GRID)
  return pixels.astype(float), [picture.shadow(e) for e in extents]


def _many(num: int, most: int = 4) -> list[list[findings.Finding]]:
  return [findings.draw_findings(np.random.default_rng(seed), most)
          for seed in range(num)]


def test_bone_is_white_air_is_black_and_the_heart_lies_on_the_left():
  pixels, _ = _exposed()
  assert pixels.shape == (64, 64)
  lung, middle = pixels[LUNG].mean(), pixels[10:30, 30:34].mean()
  assert lung < 110 < 200 < middle
  # The patient's left is on the right: there the heart reaches further.
  heart = pixels[38:42]
  assert heart[:, 36:44].mean() > heart[:, 20:28].mean() + 40
  assert pixels[-3:, 10:54].mean() > lung + 60    # the abdomen
  assert pixels[:, 0].mean() < 60                 # beside the body


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_lesion_is_seen_where_its_mask_says(name):
  darker = name in ("emphysema", "pneumothorax")
  for grade in range(3):
    found = _finding(name, grade=grade)
    pixels, (mask,) = _exposed(found)
    without, _ = _exposed()
    change = (without - pixels) if darker else (pixels - without)
    noise = 6.0 / np.sqrt(mask.sum())
    if name == "hiatal hernia":        # gas above, wall and fluid below
      change = np.abs(change)
    assert change[mask].mean() > 4 + 3 * noise, grade
    assert change[mask].mean() > 2 * np.abs(change[~mask]).mean(), grade


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_higher_grade_shows_more(name):
  shown = []
  for grade in range(3):
    pixels, (mask,) = _exposed(_finding(name, grade=grade))
    shown.append(np.abs(pixels - _exposed()[0])[mask].sum())
  assert shown[1] > 1.2 * shown[0] and shown[2] > 1.2 * shown[1]
  assert len(set(KINDS[name].grades)) == 3
  for (_, most), (least, _) in zip(KINDS[name].size, KINDS[name].size[1:]):
    assert most < least


def test_places_are_where_they_say():
  for kind in findings.KINDS:
    for number, place in enumerate(kind.places):
      _, (mask,) = _exposed(_finding(kind.name, number))
      row, column = np.argwhere(mask).mean(axis=0) - 31.5
      assert place.side != "right" or column < -5, (kind.name, place.name)
      assert place.side != "left" or column > 5, (kind.name, place.name)
      assert place.region != "upper lobe" or row < -5, kind.name
      assert place.region != "lower lobe" or row > 0, kind.name


def test_no_finding_hides_another():
  for seed, found in enumerate(_many(60)):
    assert len({f.kind.name for f in found}) == len(found) >= 3
    held = [h for f in found for h in f.place.holds]
    assert len(set(held)) == len(held)
    if seed < 20:
      pixels = _exposed(*found, seed=seed)[1]
      for k, mask in enumerate(pixels):
        later = np.any(pixels[k + 1:], axis=0) if pixels[k + 1:] else False
        assert (mask & ~later).sum() >= 5, (seed, found[k].kind.name)


def test_fluid_sinks_and_gas_rises():
  lung = _exposed(_finding("emphysema"))[1][0]      # all of the right one
  height = lambda m: np.argwhere(m).mean(axis=0)[0]
  assert height(_exposed(_finding("effusion"))[1][0]) > height(lung) + 8
  assert height(_exposed(_finding("pneumothorax"))[1][0]) < height(lung) - 2


def test_triplets_tell_what_the_sentence_tells():
  for seed, found in enumerate(_many(200)):
    items = report.write(np.random.default_rng(seed), found)
    assert sorted(i.about for i in items if i.about is not None) == list(
        range(len(found)))
    for text, (severity, location, category), about in items:
      text = text.lower()
      assert text == " ".join(text.split()) and text.endswith(".")
      assert "{" not in text and "none" not in text and " ." not in text
      if about is None:
        denied = re.match(r"(there is )?no (evidence of )?", text)
        assert (severity == "no") == bool(category)
        assert location == "" and (not category or denied), text
        assert category not in {f.kind.name for f in found}
        assert not category or report.noun(category) in text
        continue
      finding = found[about]
      assert category == finding.kind.name
      assert severity in ("", finding.kind.grades[finding.grade])
      assert bool(severity) == any(
          re.search(rf"\b{g}\b", text) for g in finding.kind.grades)
      assert location in ("", finding.place.name)
      assert finding.place.side is None or (
          bool(location) == (finding.place.side in text))
      assert re.search("|".join(report._bare(n) for n in report.NOUNS[category]
                                ), text)


def test_fields_are_left_open_and_things_denied_now_and_then():
  items = [item for seed, found in enumerate(_many(300))
           for item in report.write(np.random.default_rng(seed), found)]
  of = [i.triplet for i in items if i.about is not None]
  assert 0.1 < np.mean([t.severity == "" for t in of]) < 0.2
  sided = [t for t in of if KINDS[t.category].places[0].side]
  assert 0.08 < np.mean([t.location == "" for t in sided]) < 0.17
  assert 0.1 < np.mean([i.triplet.severity == "no" for i in items]) < 0.3
  assert len({i.text for i in items}) > 250


def test_articles():
  texts = [item.text for seed, found in enumerate(_many(300))
           for item in report.write(np.random.default_rng(seed), found)]
  assert not [t for t in texts if re.search(r"\b[Aa] [aeiou]", t)]
  assert not [t for t in texts if re.search(r"\b[Aa]n [^aeiou]", t)]


def test_labels_follow_every_level_of_a_finding():
  labels = report.labels([_finding("consolidation", 2, grade=2)])
  assert {name for name, on in labels.items() if on} == {
      "consolidation", "consolidation, right side",
      "consolidation, right lower lobe", "consolidation, large"}
  labels = report.labels([_finding("cardiomegaly", grade=0)])
  assert {name for name, on in labels.items() if on} == {
      "cardiomegaly", "cardiomegaly, mild"}
  assert not any(report.labels([]).values())
  assert len(report.findings()) == 10 + 30 + 14 + 15


def test_no_prompt_is_a_sentence_of_a_report():
  said = {item.text.lower().rstrip(".") for seed, found in enumerate(_many(200))
          for item in report.write(np.random.default_rng(seed), found)}
  prompts = [p for f in report.findings().values() for p in f["prompts"]]
  assert len(set(prompts)) == 2 * len(report.findings())
  assert not said & {p.lower() for p in prompts}


def test_a_reader_looks_longest_at_what_is_abnormal():
  found = [_finding("nodule", 0), _finding("atelectasis", 1)]
  subject = findings.subject_of(np.random.default_rng(0), found)
  _, masks = _exposed(*found)
  near, normal = [], []
  for seed in range(20):
    for looked, wanted in ((masks, near), ([], normal)):
      rng = np.random.default_rng(seed)
      time = gaze.density(gaze.look(rng, subject, GRID, looked), GRID)
      assert time.shape == (64, 64) and time.dtype == np.uint8
      assert time.max() == 255
      wanted.append(time[np.any(masks, axis=0)].mean() / time.mean())
  assert np.mean(near) > 4 > 3 > np.mean(normal)


def test_a_fixation_is_a_bell_where_the_eye_was():
  looked = gaze.Fixations(np.array([[20.0, 40.0], [50.0, 10.0]]),
                          np.array([1.0, 0.5]))
  time = gaze.density(looked, GRID)
  assert np.unravel_index(time.argmax(), time.shape) == (20, 40)
  sigma = gaze.SIGHT_MM / GRID.spacing_mm[0]
  assert time[20, 43] == round(255 * np.exp(-0.5 * (3 / sigma)**2))
  assert abs(int(time[50, 10]) - 127.5) <= 1


@pytest.fixture(name="built", scope="module")
def _built(tmp_path_factory):
  return files.build(tmp_path_factory.mktemp("xray"), "phantom_radiograph",
                     side=48, expert_share=0.5, **SIZES)


def test_the_built_set_holds_what_was_said(built):
  assert not files.rejected(built)
  columns = list(record.read_findings(built))
  some = 0
  for split, size in (("train", 8), ("valid", 1), ("test", 3)):
    opened = record.open_split(built, split)
    assert len(opened.source) == size
    for i, expert in enumerate(opened.index["expert"]):
      study = opened.study(i)
      n = len(study["items"])
      assert {len(study[k]) for k in (
          "severity", "location", "category", "item_finding")} == {n}
      assert study["normal"] == opened.index["normal"][i] == (
          not study["labels"].any())
      mask = image.decode_mask(study["lesion_mask"].tobytes())
      assert mask.shape == (48, 48)
      for k, column in enumerate(study["item_finding"]):
        assert (mask == k + 1).any() == (column >= 0)
        if column >= 0:
          some += 1
          assert study["labels"][column] == 1
          assert columns[column].split(",")[0] == study["category"][k]
          assert study["severity"][k] != "no"
      assert expert == bool(study["heatmap"].size)
      assert split == "train" or not expert
      if expert:
        heatmap = image.decode_mask(study["heatmap"].tobytes())
        assert heatmap.shape == (48, 48) and heatmap.max() == 255
  assert some > 5
  assert 0 < record.open_split(built, "train").index["expert"].sum() < 8


def test_the_built_set_is_read_as_batches(built):
  x = files.batch_for_training(built, max_items=6)
  assert x["volume"].shape == (2, 1, 3, files.SIDE, files.SIDE)
  np.testing.assert_array_equal(x["volume"][:, :, 0], x["volume"][:, :, 2])


def _digest(folder):
  return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest()
          for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_bytes_whatever_the_workers(built, tmp_path):
  prepare.build(
      datasets.make("phantom_radiograph", side=48, expert_share=0.5, **SIZES),
      tmp_path / "two", num_workers=2)
  for part in ("raw", "pictures"):
    assert _digest(built / part) == _digest(tmp_path / "two" / part)


def test_the_share_of_experts_changes_heatmaps_only(built, tmp_path):
  files.build(tmp_path / "all", "phantom_radiograph", side=48, expert_share=1.0,
              **SIZES)
  have, want = _digest(tmp_path / "all/raw/train"), _digest(built / "raw/train")
  assert want.items() <= have.items()
  assert {p.name for p in have.keys() - want.keys()} == {"heatmap.png"}
  assert sum(p.name == "heatmap.png" for p in have) == 8


@pytest.mark.parametrize("options, said", [
    ({"side": 16}, "32 to 512"), ({"expert_share": 1.5}, "0 to 1"),
    ({"num_test": -1}, "none may be negative")])
def test_useless_options_are_told(options, said):
  with pytest.raises(PrepareError, match=said):
    datasets.make("phantom_radiograph", **options)


def _grey(height: int, width: int) -> bytes:
  out = io.BytesIO()
  Image.fromarray(np.zeros((height, width), np.uint8)).save(out, "PNG")
  return out.getvalue()


@pytest.mark.parametrize("changes, said", [
    ({"triplets": ()}, "0 triplets, want one for each of 1"),
    ({"heatmap": files.encoded(size=(5, 5), kind="PNG")}, "mode RGB"),
    ({"heatmap": _grey(5, 4)}, "the heatmap has (4, 5) pixels, want"),
    ({"heatmap": b"no picture"}, "no JPEG or PNG")])
def test_bad_extras_leave_a_picture_out(changes, said):
  fields = {"encoded": files.encoded(), "items": ["A nodule."],
            "triplets": [("", "", "nodule")]} | changes
  made = pictures.make_record(pictures.Job(
      "train", "a", "", lambda: pictures.Picture(**fields),
      extras=("triplets", "heatmap")))
  assert made.record is None and said in made.reason

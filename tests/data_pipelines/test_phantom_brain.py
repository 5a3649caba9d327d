"""The phantom: what the report says is where the masks are."""

import json
import shutil

import numpy as np

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import prepare
from data_pipelines.datasets import phantom_brain
from data_pipelines.parallel import Workers
from data_pipelines.phantom import anatomy
from data_pipelines.phantom import lesions
from data_pipelines.phantom import report
from itemclip_jax.data import record
import pytest

from tests.data_pipelines.conftest import SIZES


def _subject(seed=0):
  return anatomy.draw_subject(np.random.default_rng(seed))


def _reports(num):
  """Items of many subjects, without drawing any image."""
  items = []
  for seed in range(num):
    rng = np.random.default_rng(seed)
    found = lesions.draw_lesions(rng, _subject(seed),
                                 tuple(anatomy.CONTRAST), 5)
    items += report.write(rng, found)[0]
  return items


def _positions(study, s, mask):
  """RAS mm of the masked voxels of series s, [n, 3]."""
  index = np.argwhere(mask)
  affine = study["affine"][s]
  return index @ affine[:3, :3].T + affine[:3, 3]


def _annotated(split):
  """(study, item, series) of every visible lesion of a split."""
  for study in (split.source[i] for i in range(len(split.source))):
    for k, s in np.argwhere(study["item_visible"]):
      yield study, k, s


def test_places_are_where_their_name_says():
  for place in lesions.PLACES:
    x = _subject().to_patient(np.array(place.centre_mm, float))
    side = {"left": -1, "right": 1, None: 0}[place.side]
    assert np.sign(round(x[0] / 15)) == side, place.name


def test_to_patient_inverts_to_template():
  want = np.array([28.0, 38.0, 22.0])
  x = _subject(3).to_patient(want)
  got = _subject(3).to_template([x[:1], x[1:2], x[2:]]).ravel()
  np.testing.assert_allclose(got, want, atol=0.02)  # mm, four iterations


def test_masks_lie_on_the_side_that_the_item_names(phantom):
  split = record.open_split(phantom, "train")
  columns, checked = list(split.findings), 0
  for study, k, s in _annotated(split):
    at = _positions(study, s, study["lesion_mask"][s] == k + 1)
    name = columns[study["item_finding"][k]]
    side = -1 if "left" in name else 1 if "right" in name else 0
    assert side * at[:, 0].mean() > -5 * (not side) and len(at) > 10, name
    assert study["labels"][study["item_finding"][k]] == 1
    checked += 1
  assert checked >= 5


def test_all_series_see_a_lesion_at_the_same_place_in_the_patient(phantom):
  split = record.open_split(phantom, "train")
  for i in range(len(split.source)):
    study = split.source[i]
    for value in set(np.unique(study["lesion_mask"])) - {0}:
      centres = [_positions(study, s, mask == value).mean(0)
                 for s, mask in enumerate(study["lesion_mask"])]
      spread = np.ptp(centres, axis=0)
      assert (spread < 3.0).all(), spread  # mm, under half a voxel


def test_lesions_stand_out_where_they_show_and_nowhere_else(phantom):
  split = record.open_split(phantom, "train")
  odd = {False: [], True: []}
  for i in range(len(split.source)):
    study = split.source[i]
    for k in np.unique(study["lesion_mask"][study["lesion_mask"] > 0]) - 1:
      for s, seen in enumerate(study["item_visible"][k]):
        inside = study["lesion_mask"][s] == k + 1
        tissue = (study["volume"][s] > 0) & (study["lesion_mask"][s] == 0)
        x = study["volume"][s].astype(float)
        low, high = np.percentile(x[tissue], [2, 98])
        share = np.mean((x[inside] < low) | (x[inside] > high))
        odd[bool(seen)].append(share)
  assert min(odd[True]) > 0.15          # dots fill a part of their cluster
  assert np.median(odd[True]) > 0.7
  assert np.median(odd[False]) < 0.1    # 0.04 lies outside by construction


def test_normal_studies_say_so_and_nothing_else(phantom):
  split = record.open_split(phantom, "train")
  for i in range(len(split.source)):
    study = split.source[i]
    healthy = not study["lesion_mask"].any()
    assert study["normal"] == healthy == (study["items"] == [report.NORMAL])
    assert (study["labels"].max() == 0) == healthy


def test_kinds_are_distinct_visible_and_apart():
  for seed in range(20):
    rng = np.random.default_rng(seed)
    series = ("AX_T2", "AX_SWI", "COR_T1_POST")
    found = lesions.draw_lesions(rng, _subject(seed), series, 5)
    names = [lesion.kind.name for lesion in found]
    assert len(set(names)) == len(names) > 0
    assert all(set(lesion.kind.shows) & set(series) for lesion in found)


def test_every_finding_has_several_phrasings():
  for kind in lesions.KINDS:
    texts = set()
    for seed in range(60):
      rng = np.random.default_rng(seed)
      (lesion,) = lesions.draw_lesions(
          rng, _subject(), tuple(kind.shows)[:1], 1)
      texts.add(report.describe(rng, lesion))
    assert len(texts) >= 6


def test_no_prompt_is_a_sentence_of_a_report():
  said = {item.lower().rstrip(".") for item in _reports(150)}
  prompts = [p for f in report.findings().values() for p in f["prompts"]]
  assert len(prompts) == 2 * len(report.findings())
  assert not said & {p.lower().rstrip(".") for p in prompts}
  words = {w.strip(",.") for item in said for w in item.split()}
  known = [w.strip(",.") in words for p in prompts for w in p.lower().split()]
  assert np.mean(known) > 0.9


def test_a_subject_depends_on_its_number_only(phantom, tmp_path):
  out = tmp_path / "again"
  dataset = datasets.make("phantom_brain", **SIZES)
  prepare.build(dataset, out, num_workers=2)
  files = sorted(p.relative_to(phantom) for p in phantom.rglob("*")
                 if p.is_file() and p.name != "index.npz")
  assert files == sorted(p.relative_to(out) for p in out.rglob("*")
                         if p.is_file() and p.name != "index.npz")
  voxels = [p for p in files if p.name.endswith(".nii.gz")
            or "array_record" in p.name]
  assert len(voxels) > 20
  for path in voxels:
    assert (phantom / path).read_bytes() == (out / path).read_bytes(), path


def test_an_interrupted_build_goes_on_where_it_was(tmp_path, monkeypatch):
  dataset = datasets.make(
      "phantom_brain", num_train=4, num_valid=0, num_test=0)
  write, done = phantom_brain.write_subject, []
  def interrupted(job):
    if len(done) == 2:
      raise KeyboardInterrupt
    done.append(job.number)
    return write(job)
  monkeypatch.setattr(phantom_brain, "write_subject", interrupted)
  with pytest.raises(KeyboardInterrupt):
    prepare.build(dataset, tmp_path, num_workers=1)
  kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nii.gz")}
  (tmp_path / "raw/train/.train-00002").mkdir()  # half of a subject
  monkeypatch.setattr(phantom_brain, "write_subject", write)
  prepare.build(dataset, tmp_path, num_workers=1)
  assert kept and all(p.stat().st_mtime_ns == t for p, t in kept.items())
  assert len(record.open_split(tmp_path, "train").source) == 4


def test_subjects_of_two_seeds_are_never_mixed(phantom, tmp_path):
  shutil.copy(phantom / "raw" / "recipe.json", tmp_path / "recipe.json")
  dataset = datasets.make("phantom_brain", source=str(tmp_path), seed=1)
  with pytest.raises(errors.PrepareError, match="name another --source"):
    with Workers(1) as workers:
      dataset.fetch(tmp_path, workers)


def test_findings_file_is_in_column_order(phantom):
  findings = json.loads((phantom / "findings.json").read_text())
  assert list(findings) == list(report.findings())
  assert [f["label"] for f in findings.values()] == list(findings)

"""A fine set passes the audit; every fault is found, and its study is named."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from data_pipelines import verify
from data_pipelines.audit import pictures
from itemclip_jax.data import record
from tests.data_pipelines import fake_set
from tests.data_pipelines.fake_set import IPR, SHAPE


def _audit(root, **options) -> dict:
  options = {"num_drawn": 1} | options  # drawing takes longest
  return verify.audit(root, root / "verify", **options)


def _problems(root) -> list[tuple[str, str]]:
  return [(p["kind"], p["text"]) for p in _audit(root)["problems"]]


def _run(*arguments) -> subprocess.CompletedProcess:
  return subprocess.run(
      [sys.executable, "-m", "data_pipelines.verify", *map(str, arguments)],
      capture_output=True, text=True, check=False,
      cwd=pathlib.Path(__file__).parents[2])


def test_a_fine_set_passes_whatever_the_number_of_workers(phantom, tmp_path):
  done = _run(phantom, f"--out={tmp_path / 'out'}", "--workers=2")
  assert done.returncode == 0, done.stdout + done.stderr
  assert "No problems in" in done.stdout
  got = json.loads((tmp_path / "out/verify.json").read_text())
  want = verify.audit(phantom, tmp_path / "again")
  assert got == json.loads(json.dumps(want))
  assert got["ok"] and got["problems"] == []
  assert {s: r["studies"] for s, r in got["splits"].items()} == {
      "train": 6, "valid": 1, "test": 1}
  assert sum(map(sum, got["histogram"]["counts"]["train"].values())) == (
      got["splits"]["train"]["series"] * 24 * 48 * 48)
  for name in ("contact.png", "histogram.png"):
    assert min(Image.open(tmp_path / "out" / name).size) > 300


def test_the_page_needs_no_other_file_and_no_script(phantom, tmp_path):
  report = verify.audit(phantom, tmp_path)
  page = (tmp_path / "verify.html").read_text(encoding="utf-8")
  assert "<script" not in page and "<link" not in page
  images = re.findall(r'<img src="([^"]*)" alt="[^"]{20,}">', page)
  assert len(images) == 2 == page.count("<img")
  assert all(i.startswith("data:image/png;base64,") for i in images)
  for digest in [s["sha256"] for s in report["splits"].values()] + [
      s["sha256"] for s in report["shards"].values()]:
    assert re.fullmatch("[0-9a-f]{64}", digest) and digest in page
  assert "No problem found" in page and "acute infarct" in page


FLAT = np.full((1, *SHAPE), 7, np.uint8)
NAN = np.where(np.eye(4, dtype=bool), np.nan, IPR).astype(np.float32)
DOUBLED = np.random.default_rng(0).integers(
    0, 256, (1, *SHAPE)).astype(np.uint8)


@pytest.mark.parametrize("changes, kind, words", [
    ({"volume": FLAT}, "constant series", "no voxel other than 7"),
    ({"volume": FLAT * 0}, "black series", "no voxel other than 0"),
    ({"affine": NAN[None]}, "affine", "not finite"),
    ({"affine": (IPR * [1, 1, 0, 1]).astype(np.float32)[None]}, "affine",
     "singular"),
    ({"affine": (IPR * [1, 1, -1, 1]).astype(np.float32)[None]}, "affine",
     "a right-handed affine whose axes run to IPL, but the left-handed "
     "orientation IPR"),
    ({"affine": IPR[None, :, [1, 2, 0, 3]]}, "affine", "axes run to PRI"),
    ({"orientation": ["SAR"]}, "breach of the contract", "orientation SAR"),
    ({"orientation": ["IPP"]}, "affine", "one letter each"),
    ({"affine": np.repeat(IPR[None], 2, 0)}, "series", "1 volumes"),
    ({"source_spacing_mm": np.array([[5, 0, 1]], np.float32)}, "spacing",
     "source spacing [5.0, 0.0, 1.0]"),
    ({"series_names": [" "]}, "breach of the contract", "without a name"),
    ({"items": []}, "breach of the contract", "no items"),
    ({"items": ["x.", " "]}, "blank item", "without a text"),
    ({"labels": np.array([1], np.int8)}, "labels", "1 labels"),
    ({"labels": np.array([1, 2], np.int8)}, "labels", "other than"),
    ({"study_id": "good"}, "study twice", "there twice"),
    ({"volume": DOUBLED}, "same voxels", "of study 'twin'"),
])
def test_an_implausible_study_is_named(tmp_path, changes, kind, words):
  studies = [fake_set.study("good"), fake_set.study("twin", volume=DOUBLED),
             fake_set.study("bad") | changes]
  problems = _problems(fake_set.build(tmp_path / "set", train=studies))
  found = [text for k, text in problems if k == kind]
  assert len(found) == 1 and words in found[0]
  assert "split 'train'" in found[0] and found[0].endswith(".")
  double = kind in ("study twice", "same voxels")
  assert double or all("'bad'" in text for _, text in problems)


@pytest.mark.parametrize("make, kind, words", [
    (lambda x: x, None, ""),
    (lambda x: x + 1100, "Hounsfield units", "lowest voxel is 0 HU"),
    (lambda x: x - 1000, "Hounsfield units", "far below air"),
    (lambda x: np.where(x < 0, -1000, 900), "Hounsfield units", "0.00% of"),
    (lambda x: np.full_like(x, -1150), "black series", "other than -1150"),
])
def test_hounsfield_units_must_be_those_of_a_body(tmp_path, make, kind, words):
  bad = fake_set.study("bad", dtype=np.int16)
  low = bad["volume"].min()
  volume = make(bad["volume"] - low - 1100).astype(np.int16)
  root = fake_set.build(
      tmp_path / "set", contract=fake_set.CT,
      features=record.features(np.int16),
      train=[fake_set.study("good", dtype=np.int16), bad | {"volume": volume}])
  problems = _problems(root)
  assert [k for k, _ in problems] == ([kind] if kind else [])
  assert not kind or words in problems[0][1] and "'bad'" in problems[0][1]


def test_voxels_of_another_size_than_the_contract_has_are_named(tmp_path):
  wide = (IPR * [1, 1.3, 1, 1]).astype(np.float32)
  studies = [fake_set.study("good", dtype=np.int16),
             fake_set.study("bad", dtype=np.int16, affine=wide[None])]
  [(kind, text)] = _problems(fake_set.build(
      tmp_path / "set", contract=fake_set.CT,
      features=record.features(np.int16), train=studies))
  assert kind == "spacing" and "5 x 1.3 x 1 mm, want 5 x 1 x 1 mm" in text


def test_a_patient_in_two_splits_is_a_problem(tmp_path):
  root = fake_set.build(
      tmp_path / "set", train=[fake_set.study("a"), fake_set.study("b")],
      test=[fake_set.study("c", patient_id="patient of b"),
            fake_set.study("d", patient_id="patient of b")])
  [(kind, text)] = _problems(root)                    # once, not per study
  assert kind == "patient in two splits"
  assert "'patient of b'" in text and "'train'" in text and "'test'" in text


def test_an_index_that_differs_from_the_records_is_a_problem(tmp_path):
  root = fake_set.build(tmp_path / "set", train=[fake_set.study("a")])
  with np.load(root / "index.npz") as index:
    np.savez(root / "index.npz", **(dict(index) | {
        "train/num_items": np.array([3])}))
  [(kind, text)] = _problems(root)
  assert kind == "index" and "num_items 2, but index.npz says 3" in text


def test_findings_without_positives_are_a_note(tmp_path):
  labels = lambda *values: {"labels": np.array(values, np.int8)}
  root = fake_set.build(
      tmp_path / "set",
      train=[fake_set.study("a", **labels(1, 0)),
             fake_set.study("b", **labels(-1, 1))],
      test=[fake_set.study("c", **labels(0, 1)),
            fake_set.study("d", **labels(-1, 0))])
  report = _audit(root)
  assert report["ok"]
  assert report["notes"] == [
      "Split 'test' has no positive of 1 of 2 findings: cyst."]
  assert report["labels"]["cyst"] == {
      "train": {"positive": 1, "negative": 0, "unknown": 1},
      "test": {"positive": 0, "negative": 1, "unknown": 1}}


def test_items_are_counted(tmp_path):
  studies = [fake_set.study("a", items=["Cyst.", "Cyst.", "A very long mass."]),
             fake_set.study("b", items=["One small cyst."], normal=True)]
  report = _audit(fake_set.build(tmp_path / "set", train=studies), max_words=3)
  items = report["items"]
  assert items["per_study"] == {1: 1, 3: 1}
  assert items["words"] == {1: 2, 3: 1, 4: 1}
  assert items["frequent"][0] == ("Cyst.", 2) and items["distinct"] == 3
  assert items["studies_with_repeats"] == items["longer_than_max_words"] == 1
  assert items["longest"] == "A very long mass."
  assert report["splits"]["train"]["normal_share"] == 0.5
  assert len(report["notes"]) == 2 and report["ok"]


def test_the_reasons_of_the_ingest_log_are_summed_up(tmp_path):
  root = fake_set.build(tmp_path / "set", train=[fake_set.study("a")])
  line = lambda **x: json.dumps({"split": "train", "study": "s"} | x)
  (root / "ingest.jsonl").write_text("\n".join([
      line(reason="item 1 of the report is not a text"),
      line(reason="item 12 of the report is not a text"),
      line(reason="the file is missing", series="AX_T1")]))
  assert _audit(root)["ingest"] == {
      "item … of the report is not a text": {"studies": 2, "series": 0},
      "the file is missing": {"studies": 0, "series": 1}}
  (root / "ingest.jsonl").write_text("{}")
  [(kind, text)] = _problems(root)
  assert kind == "ingest log" and "line 1" in text
  (root / "ingest.jsonl").unlink()
  report = _audit(root)
  assert report["ok"] and "nobody knows" in report["notes"][0]


def test_a_damaged_shard_is_named_and_the_rest_is_read(tmp_path):
  root = fake_set.build(
      tmp_path / "set", num_shards=2,
      valid=[fake_set.study("v"), fake_set.study("w")],
      train=[fake_set.study(n) for n in "abcdefgh"])
  shard = sorted((root / "fake/1.0.0").glob("*train*"))[1]
  stored = bytearray(shard.read_bytes())
  stored[len(stored) // 4:] = bytes(len(stored) - len(stored) // 4)
  shard.write_bytes(stored)
  done = _run(root, "--workers=1")
  assert done.returncode == 1
  assert f"4 of 4 records of {shard} cannot be read" in done.stdout
  report = json.loads((root / "verify/verify.json").read_text())
  train = report["splits"]["train"]
  assert train["studies"] == 8 and train["unreadable"] == 4
  assert train["series"] == 4 and train["sha256"] is None
  assert report["splits"]["valid"]["sha256"]


@pytest.mark.parametrize("break_it, words", [
    (shutil.rmtree, "no data set at"),
    (lambda root: (root / "contract.json").write_text("{"), "damaged"),
    (lambda root: next(root.glob("fake/*/*train*")).unlink(), "is missing"),
    (lambda root: (root / "fake/1.0.0/features.json").unlink(),
     "cannot be read"),
])
def test_what_cannot_be_opened_is_told(tmp_path, break_it, words):
  root = fake_set.build(tmp_path / "set", train=[fake_set.study("a")])
  break_it(root)
  with pytest.raises(ValueError, match=words):
    _audit(root)


def test_the_reason_is_told_without_a_traceback(tmp_path):
  done = _run(tmp_path / "absent")
  assert done.returncode == 2 and "no data set at" in done.stderr
  assert "Traceback" not in done.stderr
  assert _run().returncode == 2


def test_the_digest_knows_the_content_and_not_the_shards(tmp_path):
  studies = [fake_set.study(n) for n in "abcd"]
  sha = lambda name, some, **x: _audit(fake_set.build(
      tmp_path / name, train=some, **x))["splits"]["train"]["sha256"]
  whole = sha("one", studies)
  assert sha("three", studies, num_shards=3) == whole
  changed = studies[2]["volume"].copy()
  changed[0, 1, 2, 3] ^= 1
  assert sha("voxel", [*studies[:2], studies[2] | {"volume": changed},
                       studies[3]]) != whole
  assert sha("text", [studies[0] | {"items": ["One of a.", "Two"]},
                      *studies[1:]]) != whole


def test_pictures_are_audited_too(tmp_path):
  whole = fake_set.encoded(np.zeros((9, 9, 3), np.uint8))
  root = fake_set.build(
      tmp_path / "set", contract=fake_set.RGB,
      features=record.picture_features(), train=[
          fake_set.picture("fine"), fake_set.picture("twin"),
          fake_set.picture("flat", image=whole),
          fake_set.picture("torn", image=whole[:40]),
          fake_set.picture("other", image=fake_set.picture("twin")["image"])])
  report = _audit(root)
  found = {p["kind"]: p["text"] for p in report["problems"]}
  assert len(report["problems"]) == 3 == len(found)
  assert "'flat'" in found["constant series"]
  assert "'torn'" in found["broken picture"]
  assert "'twin'" in found["same voxels"] and "'other'" in found["same voxels"]
  counts = report["histogram"]["counts"]["train"]
  assert {c: sum(n) for c, n in counts.items()} == dict.fromkeys(
      ("red", "green", "blue"), 3 * 600 + 81)


def test_the_contact_sheet_holds_studies_of_every_split(phantom, tmp_path,
                                                        monkeypatch):
  drawn = []
  monkeypatch.setattr(pictures, "contact_sheet", lambda thumbs: drawn.extend(
      thumbs) or pictures.Figure((1, 1)))
  verify.audit(phantom, tmp_path, num_drawn=5)
  assert [t.where.split()[0] for t in drawn] == [
      "train", "train", "valid", "test"]

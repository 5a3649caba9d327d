"""Results -> training files, and those through data_pipelines.prepare."""

import csv
import json
import pathlib

import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import recipes
from data_pipelines.itemize.contract import Item, Result, Triplet
from data_pipelines.itemize.export import export
from itemclip_jax.data import record
from tests.data_pipelines import picture_files
from tests.data_pipelines import test_rsicd
from tests.data_pipelines.conftest import Archive
from tests.data_pipelines.test_ct_rate import Archive as ChestArchive


def _result(name, *texts, recipe="summary_list", **values):
  normal = bool(texts) and texts == (recipes.get(recipe).normal,)
  return Result(id=name, recipe=recipe, recipe_version="1", backend="rules",
                raw_hash="0", items=tuple(map(Item, texts)),
                normal=normal, **values)


def _write(path: pathlib.Path, *results) -> pathlib.Path:
  path.write_text("".join(f"{result.line()}\n" for result in results))
  return path


def _exported(tmp_path, to, *results, **options):
  out = tmp_path / "out.json"
  export(_write(tmp_path / "y.jsonl", *results), out, to, **options)
  return json.loads(out.read_text())


def test_studies_go_into_the_file_that_names_their_series(tmp_path):
  archive = Archive(tmp_path / "archive")
  archive.add("s1", report=("1. Old text.",), subid="p1")
  archive.add("s2", report=("Kept as it was.",))
  archive.add("s3", report=("Unreadable.",))
  archive.add("s4", report=("All is well.",))
  out = archive.build(tmp_path / "before")
  train = archive.root / "train.json"
  said = export(
      _write(tmp_path / "y.jsonl",
             _result("s1", "A cyst.", "A mass."), _result("s3"),
             _result("s4", recipes.NORMAL_STUDY), _result("of test", "X.")),
      train, "itemizedclip", into=train)
  assert "3 entries" in said and "4 results" in said
  archive.entries["train"] = json.loads(train.read_text())
  assert archive.entries["train"]["s1"] == {
      "series": {"AX_T1": {}}, "report": ["A cyst.", "A mass."], "subid": "p1"}
  out = archive.build(tmp_path / "after")
  split = record.open_split(out, "train")
  found = {s["study_id"]: s for s in map(split.study, range(3))}
  assert found["s1"]["items"] == ["A cyst.", "A mass."]
  assert found["s2"]["items"] == ["Kept as it was."]
  assert found["s4"]["normal"] and not found["s1"]["normal"]
  assert "the report is empty" in (out / "ingest.jsonl").read_text()  # s3


def test_studies_as_a_table_of_numbered_lists(tmp_path):
  archive = Archive(tmp_path / "archive")
  archive.add("s1", report=("Old.",))
  table = tmp_path / "reports.csv"
  export(_write(tmp_path / "y.jsonl", _result("s1", 'A "5.5 mm" cyst, left.',
                                              "A mass.")),
         table, "itemizedclip")
  assert list(csv.reader(open(table, newline=""))) == [
      ["s1", '1. A "5.5 mm" cyst, left.\n2. A mass.']]
  out = archive.build(tmp_path / "out", reports=str(table))
  study = record.open_split(out, "train").study(0)
  assert study["items"] == ['A "5.5 mm" cyst, left.', "A mass."]


def test_a_study_whose_lesions_name_items_is_left_alone(tmp_path):
  train = tmp_path / "train.json"
  train.write_text(json.dumps({"s1": {"series": {}, "lesions": []}}))
  with pytest.raises(PrepareError, match="'s1'.*leave that record out"):
    _exported(tmp_path, "itemizedclip", _result("s1", "A."), into=train)


def test_ct_rate_takes_scans_or_their_volumes(tmp_path):
  make = lambda name, *texts: _result(name, *texts, recipe="ctrate_abnormal")
  value = _exported(
      tmp_path, "itemizedclip", make("train_1_a_1.nii.gz", "A."),
      make("train_1_a_2.nii.gz", "A."), make("valid_2_b_1", "B."),
      make("train_3_a", recipes.NORMAL_CHEST_CT))
  assert value == {
      "train_1_a": {"recons": ["train_1_a_1.nii.gz", "train_1_a_2.nii.gz"],
                    "report": ["A."]},
      "valid_2_b": {"recons": ["valid_2_b_1.nii.gz"], "report": ["B."]},
      "train_3_a": {"recons": [], "report": ["no significant abnormalities"]}}
  with pytest.raises(PrepareError, match="'train_1_a' have different items"):
    _exported(tmp_path, "itemizedclip", make("train_1_a_1", "A."),
              make("train_1_a_2", "B."))


def test_ct_rate_is_read_by_its_builder(tmp_path):
  archive = ChestArchive(tmp_path / "raw")
  archive.add("train_1_a_1", report=["Raw one."])
  archive.add("train_2_a_1", report=["Raw two."])
  archive.add("train_3_a_1", report=["Raw three."])
  raw = tmp_path / "raw.json"
  raw.write_text(json.dumps(archive.items))
  y = _write(tmp_path / "y.jsonl",
             _result("train_1_a", "A nodule.", recipe="ctrate_abnormal"),
             _result("train_2_a", recipes.NORMAL_CHEST_CT,
                     recipe="ctrate_abnormal"))
  export(y, raw, "itemizedclip", into=raw)
  archive.items = json.loads(raw.read_text())
  assert archive.items["train_1_a"]["recons"] == ["train_1_a_1.nii.gz"]
  archive.build(tmp_path / "out")
  split = record.open_split(tmp_path / "out", "train")
  found = {s["study_id"]: s for s in map(split.study, range(3))}
  assert found["train_1_a_1"]["items"] == ["A nodule."]
  assert not found["train_1_a_1"]["normal"] and found["train_2_a_1"]["normal"]
  assert found["train_3_a_1"]["items"] == ["Raw three."]


def test_a_normal_study_is_known_in_the_layout_that_it_goes_to(tmp_path):
  out = tmp_path / "t.csv"
  y = _write(tmp_path / "y.jsonl", _result(
      "s", recipes.NORMAL_CHEST_CT, recipe="ctrate_abnormal"))
  export(y, out, "itemizedclip", layout="studies")
  assert recipes.NORMAL_STUDY in out.read_text()


def test_rsicd_is_read_by_its_builder(tmp_path):
  root = test_rsicd._write(
      tmp_path / "raw", train=test_rsicd._rows("airport", 2, 0))
  items = tmp_path / "items.json"
  export(_write(tmp_path / "y.jsonl",
                _result("0", "Planes at the Gate.", recipe="dedup"),
                _result("1", recipe="dedup")), items, "itemizedclip")
  assert json.loads(items.read_text()) == {"0": ["planes at the gate."]}
  out = picture_files.build(tmp_path / "out", "rsicd", source=str(root),
                            items=str(items))
  train = picture_files.studies(out, "train")
  assert train["rsicd_images/airport_0.jpg"]["items"] == ["planes at the gate."]
  assert len(train["rsicd_images/airport_1.jpg"]["items"]) == 5


def test_itemized_cc_is_by_number(tmp_path):
  assert _exported(tmp_path, "itemizedclip",
                   _result("5001", "A cat.", recipe="verify2")) == {
                       "5001": ["a cat."]}
  for name in ("000010001", "cat", "1.5", "²"):
    with pytest.raises(PrepareError, match=f"'{name}' is no row"):
      _exported(tmp_path, "itemizedclip", _result(name, "A.", recipe="verify2"))


def test_fvlm_and_medfilip_stay_structured(tmp_path):
  said = {"lung": {"text": "A nodule.", "normal": False},
          "heart": {"text": "Heart shows no significant abnormalities.",
                    "normal": True}}
  assert _exported(
      tmp_path, "fvlm", _result("train_1_a", recipe="anatomy", anatomies=said),
      _result("train_2_a", recipe="anatomy")) == {"train_1_a": {
          "lung": "A nodule.",
          "heart": "Heart shows no significant abnormalities."}}
  triplets = (Triplet("mild", "left lung", "edema"),
              Triplet("no", None, "pneumothorax", True))
  assert _exported(
      tmp_path, "medfilip", _result("a", recipe="triplet", triplets=triplets),
      _result("b", recipe="triplet")) == {"a": [
          {"severity": "mild", "location": "left lung", "category": "edema",
           "negated": False},
          {"severity": "no", "location": None, "category": "pneumothorax",
           "negated": True}]}


@pytest.mark.parametrize("results, to, options, said", [
    ([_result("a", "A.")], "llava", {}, "--to=llava is none of"),
    ([_result("a", "A.")], "fvlm", {}, "summary_list, --to=fvlm wants anatomy"),
    ([_result("a", recipe="anatomy")], "itemizedclip", {}, "wants ctrate_abn"),
    ([_result("a", "A.")], "itemizedclip", {}, "wants --into=FILE"),
    ([_result("a", "A.")], "itemizedclip", {"layout": "x"}, "--layout=x is"),
    ([_result("1", "A.")], "itemizedclip",
     {"layout": "rsicd", "into": pathlib.Path("x")}, "leave --into out"),
    ([_result("a", recipe="triplet")], "medfilip", {"layout": "rsicd"},
     "neither --layout nor --into"),
    ([_result("a", "A.")] * 2, "itemizedclip", {}, "record 'a' twice"),
    ([_result("a", "A."), _result("b", recipe="dedup")], "itemizedclip", {},
     "two recipes"),
    ([], "itemizedclip", {}, "holds no result")])
def test_what_does_not_fit_is_refused(tmp_path, results, to, options, said):
  with pytest.raises(PrepareError, match=said):
    _exported(tmp_path, to, *results, **options)
  assert not (tmp_path / "out.json").exists()


def test_other_files_are_refused(tmp_path):
  y = _write(tmp_path / "y.jsonl", _result("a", "A."))
  with pytest.raises(PrepareError, match="is the file to be read"):
    export(y, y, "itemizedclip")
  (tmp_path / "into.json").write_text("[1]")
  with pytest.raises(PrepareError, match="no object of one entry a study"):
    export(y, tmp_path / "o", "itemizedclip", into=tmp_path / "into.json")
  with pytest.raises(PrepareError, match="cannot be read"):
    export(y, tmp_path / "o", "itemizedclip", into=tmp_path / "none.json")
  (tmp_path / "into.json").write_text('{"b": {}}')
  with pytest.raises(PrepareError, match="No study of .* e.g. 'b'"):
    export(y, tmp_path / "o", "itemizedclip", into=tmp_path / "into.json")
  y.write_text("{}\n")
  with pytest.raises(PrepareError, match="Line 1 of y.jsonl is not what"):
    export(y, tmp_path / "o", "itemizedclip")

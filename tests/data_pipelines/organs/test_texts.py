"""What is said of each organ, from two sections, one file, or the items."""

import json

import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.organs import texts
from data_pipelines.organs.texts import OrganText
from data_pipelines.volumes.nifti import SeriesError

DEFAULT = "Lung shows no significant abnormalities."


@pytest.mark.parametrize("order, findings, impression, want", [
    ("code", "a", "b", OrganText("b. a.", False)),
    ("code", "a", "", OrganText("a.", True)),      # default sentence cut
    ("code", "", "b", OrganText("b.", False)),
    ("code", "", "", OrganText(DEFAULT, True)),
    ("paper", "a", "b", OrganText("a. b.", False)),
    ("paper", "a", "", OrganText("a. null", True)),
    ("paper", "", "b", OrganText("null b.", False)),
    ("paper", "", "", OrganText(DEFAULT, True))])
def test_two_sections_become_one_text(order, findings, impression, want):
  assert texts.merged("lung", findings=findings, impression=impression,
                      order=order) == want


@pytest.mark.parametrize("order", texts.ORDERS)
def test_quotes_and_brackets_are_left_out(order):
  got = texts.merged("lung", findings='"Nodule" (5 mm)', impression=" ",
                     order=order)
  assert got.text.startswith("Nodule 5 mm.") and got.normal


def test_a_merged_text_is_normal_by_its_first_sentence():
  told = lambda text: texts.told("small bowel", text)
  default = "Small bowel shows no significant abnormalities."
  assert told(f"{default} Gas in loops.") == OrganText("Gas in loops.", True)
  assert told(default) == told("") == OrganText(default, True)
  # The sentence behind something else, or of another organ, says nothing.
  assert not told(f"Ileus. {default}").normal
  assert not told(DEFAULT).normal


def test_files_give_every_organ_of_every_study(tmp_path):
  findings, impression = tmp_path / "desc.json", tmp_path / "conc.json"
  findings.write_text(json.dumps({
      "a": {"lung": "Nodule.", "liver": "Cyst."}, "b": {}}))
  impression.write_text(json.dumps({"a": {"Lung": "Nodules"},
                                    "c": {"heart": "Large"}}))
  got = texts.read([findings, impression], ("lung", "heart"), order="code")
  assert {s: [t.normal for t in said.values()] for s, said in got.items()} == {
      "a": [False, True], "b": [True, True], "c": [True, False]}
  assert got["a"]["lung"].text == "Nodules. Nodule."
  assert list(got["b"]) == ["lung", "heart"]


def test_one_file_holds_merged_texts(tmp_path):
  path = tmp_path / "fvlm.json"
  path.write_text(json.dumps({"a": {
      "lung": f"{DEFAULT} Old scar.", "heart": "Large heart."}}))
  got = texts.read([path], ("heart", "lung", "aorta"), order="code")["a"]
  assert got == {
      "heart": OrganText("Large heart.", False),
      "lung": OrganText("Old scar.", True),
      "aorta": OrganText("Aorta shows no significant abnormalities.", True)}


@pytest.mark.parametrize("content, reason", [
    ('{"a": {"lugn": "x"}}', "unknown organ, 'lugn'; did you mean 'lung'"),
    ('{"a": ["lung"]}', "entry of 'a' is no object of texts"),
    ('{"a": {"lung": null}}', "entry of 'a' is no object of texts"),
    ("[1]", "holds no object"), ("{", "cannot be read")])
def test_bad_files_are_told(tmp_path, content, reason):
  (tmp_path / "a.json").write_text(content)
  with pytest.raises(PrepareError, match=reason):
    texts.read([tmp_path / "a.json"], ("lung",), order="code")


def test_one_or_two_files_are_wanted(tmp_path):
  with pytest.raises(PrepareError, match="names 3 files"):
    texts.read([tmp_path] * 3, ("lung",), order="code")


def test_items_are_told_to_organs_by_the_dictionary():
  got = texts.of_items(
      ["Nodule in the lingula.", "Dilated jejunum.", "Calcification of the "
       "left anterior descending artery."],
      ("lung", "small bowel", "heart", "aorta", "vertebrae"))
  assert got["lung"] == OrganText("Nodule in the lingula.", False)
  assert got["small bowel"] == OrganText("Dilated jejunum.", False)
  assert "descending artery" in got["heart"].text
  assert got["aorta"].normal and got["vertebrae"].normal


def test_a_report_without_any_organ_leaves_all_normal():
  for items in (["no significant abnormalities"], ["Fever."]):
    got = texts.of_items(items, ("lung", "heart"))
    assert [t.normal for t in got.values()] == [True, True]
    assert got["lung"].text == DEFAULT


def test_items_that_rules_cannot_read_are_no_proof_of_health():
  with pytest.raises(SeriesError, match="rules cannot read.*language"):
    texts.of_items(["В правом лёгком виден узел."], ("lung",))

"""CT-RATE with the reports of one file that the user names."""

import json

import pytest

from data_pipelines.errors import PrepareError
from itemclip_jax.data import record
from tests.data_pipelines.test_ct_rate import Archive

# As HLIP publishes them: one text a scan, or one an organ.
TEXTS = {"raw": ["The volume shows: Nodule. The volume looks like: Bone."],
         "organ": ["The lung shows: Nodule.", "The heart shows: Nothing."]}


def build(tmp_path, **options):
  archive = Archive(tmp_path / "archive")
  archive.add("train_1_a_1", report=["Nodule."])
  return archive.build(tmp_path / "out", **options)


def items_of(out) -> list[str]:
  return record.open_split(out, "train").source[0]["items"]


@pytest.mark.parametrize("kind", TEXTS)
def test_the_named_file_is_the_only_one_read(tmp_path, kind):
  given = tmp_path / f"{kind}.json"
  given.write_text(json.dumps({"train_1_a": {
      "recons": ["train_1_a_1.nii.gz"], "report": TEXTS[kind]}}))
  out = build(tmp_path, reports=str(given))
  assert list(items_of(out)) == TEXTS[kind]


def test_without_one_those_of_the_archive_are_read(tmp_path):
  assert list(items_of(build(tmp_path))) == ["Nodule."]


@pytest.mark.parametrize("content, message", [
    ("{}", "holds no report"), ("no json", "is no JSON file"),
    (None, "is no JSON file")])
def test_a_file_without_reports_is_told(tmp_path, content, message):
  given = tmp_path / "given.json"
  if content is not None:
    given.write_text(content)
  with pytest.raises(PrepareError, match=message):
    build(tmp_path, reports=str(given))

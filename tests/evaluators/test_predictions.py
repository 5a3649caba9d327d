"""Tables of predictions come back as they were written."""

import numpy as np
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import predictions

TABLE = {
    "study_id": np.array(["a,b", 'c"d"', "é\u2028\nx", "", "007"]),
    "patient_id": np.array(["1", "\r2", "nan", " 3 ", "-4"]),
    "tcsim/Emphysema": np.array([0.1, 1 / 3, np.nan, -np.inf, 5e-324]),
    "label/Emphysema": np.array([-1, 0, 1, 2**62, -(2**62)]),
    "whole": np.array([1.0, 2.0, 3.0, -0.0, 1e16]),
}


@pytest.fixture(name="path")
def _path(tmp_path):
  path = tmp_path / "predictions" / "ct_rate.csv"
  predictions.write(path, TABLE)
  return path


def test_a_table_comes_back_exactly(path):
  got = predictions.read(path)
  assert list(got) == list(TABLE)
  for name, column in TABLE.items():
    assert got[name].dtype.kind == column.dtype.kind, name
    np.testing.assert_array_equal(got[name], column)
  assert np.signbit(got["whole"][3])
  assert [p.name for p in path.parent.iterdir()] == ["ct_rate.csv"]


def test_narrow_numbers_keep_their_value(tmp_path):
  path = tmp_path / "x.csv"
  score = np.array([0.1, 0.2], np.float32)
  predictions.write(path, {"score": score, "hit": np.array([True, False]),
                           "label": np.array([-1, 1], np.int8)})
  got = predictions.read(path)
  np.testing.assert_array_equal(got["score"], score.astype(float))
  assert got["hit"].tolist() == [1, 0] and got["label"].tolist() == [-1, 1]


def test_a_table_without_rows(tmp_path):
  path = tmp_path / "x.csv"
  predictions.write(path, {"study_id": np.array([], str),
                           "score": np.zeros(0)})
  got = predictions.read(path)
  assert got["study_id"].dtype.kind == "U" and got["score"].shape == (0,)


def test_a_file_cut_anywhere_within_a_row_is_refused(path):
  whole = path.read_bytes()
  lines = np.flatnonzero(np.frombuffer(whole, np.uint8) == ord("\n")) + 1
  for size in range(len(whole)):
    path.write_bytes(whole[:size])
    if size in lines:
      continue   # whole rows, or within the quotes of a text
    with pytest.raises(UserError, match="ct_rate.csv is"):
      predictions.read(path)


@pytest.mark.parametrize("content, said", [
    (b"a,b\n1\n", "Row 1 of .* has 1 cells; want 2"),
    (b"a,b\n1,2\n\n", "Row 2 of .* has 0 cells"),
    (b"a,a\n1,2\n", "without a name of their own"),
    (b"a\n1\nx\n", "'a' of .* holds what is no number"),
    (b"a\n99999999999999999999\n", "holds what is no number"),
    (b"a\n\xff\n", "is damaged"),
    (b'study_id\n"a\n', "is damaged"),
    (b"", "cut off or has no header"),
    (b"\n", "cut off or has no header")])
def test_a_damaged_file_is_told(content, said, tmp_path):
  path = tmp_path / "x.csv"
  path.write_bytes(content)
  with pytest.raises(UserError, match=said):
    predictions.read(path)


def test_a_missing_file_is_told(tmp_path):
  with pytest.raises(UserError, match="There is no .*x.csv. Evaluate again"):
    predictions.read(tmp_path / "x.csv")


@pytest.mark.parametrize("table", [
    {"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.zeros((2, 2))},
    {"name": np.array(["x"])}, {"study_id": np.array([1])}, {}])
def test_what_is_no_table_is_not_written(table, tmp_path):
  with pytest.raises(ValueError, match="want one|of texts there are"):
    predictions.write(tmp_path / "x.csv", table)
  assert not list(tmp_path.iterdir())

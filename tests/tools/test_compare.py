"""Comparing evaluations: differences, warnings, and the papers beside them."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import item_overlap, measures, predictions
from itemclip_jax.tools import compare, runs
from itemclip_jax.train.writer import write_json

ROOT = pathlib.Path(__file__).parents[2]
N = 200
# Hard and easy studies are the same for all models.
_RNG = np.random.default_rng(0)
EASE, OWN = _RNG.normal(size=N), _RNG.normal(size=(3, N))


def _table(seed: int, shift: float = 0.0) -> predictions.Table:
  """Two studies a patient; "item" is an answer of the model."""
  score = 0.3 + 0.1 * EASE + 0.03 * OWN[seed] + shift
  return {
      "study_id": np.array([f"s{i}" for i in range(N)]),
      "patient_id": np.array([f"p{i // 2}" for i in range(N)]),
      "item": np.array([f"item {(i + seed) % 3}" for i in range(N)]),
      "mams": np.where(np.arange(N) % 5, 0.5, np.nan),
      "mll": score, "own_tcsim": score + 0.1}


def _save(folder: pathlib.Path, table: predictions.Table, *,
          dataset: str = "phantom_brain", data: str = "d1", split: str = "test",
          prompt_set: str | None = None, **numbers) -> pathlib.Path:
  """An evaluation as `--mode=eval` leaves it."""
  found = measures.results(item_overlap.measure("item_overlap", table, {}),
                           table, num_resamples=50, seed=0)
  predictions.write(folder / "predictions" / "item_overlap.csv", table)
  write_json(folder / "results.json", {
      **{k: v.to_json() for k, v in found.items()},
      **{k: {"value": v, "ci95": None, "n": 9} for k, v in numbers.items()},
      "about": {
          "checkpoint": {"step": 7},
          "data": {"dataset": dataset, "split": split, "studies": N,
                   "sha256": data},
          "evaluators": {"item_overlap": {
              "module": "item_overlap", "meta": {},
              "prompt_set": prompt_set and {"name": "x", "version": "1",
                                            "sha256": prompt_set}}}}})
  return folder


def _two(tmp_path, first, second, **kwargs):
  paths = [_save(tmp_path / "a", first),
           _save(tmp_path / "b", second, **kwargs)]
  return [runs.load(str(p), letter) for p, letter in zip(paths, "AB")]


def _rows(text: str) -> dict[str, list[str]]:
  """Metric -> cells, of the Markdown table."""
  cells = [[c.strip() for c in line.strip("|").split("|")]
           for line in text.splitlines() if line.startswith("|")]
  return {row[0]: row[1:] for row in cells}


def test_a_shift_is_found_and_noise_is_not(tmp_path):
  for seed, (shift, low, high) in enumerate(((0.01, 0, 0.01), (0, 0.05, 1)), 1):
    a, b = _two(tmp_path, _table(0), _table(seed, shift))
    found, notes = runs.differences(a, b, num_resamples=500)
    assert not notes
    got = found["item_overlap/mll"]
    want = b.numbers["item_overlap/mll"]["value"] - (
        a.numbers["item_overlap/mll"]["value"])
    assert abs(got.value - want) < 1e-12
    assert got.ci95[0] < want < got.ci95[1]
    assert low < got.p_value <= high


def test_pairing_is_worth_it(tmp_path):
  """The difference is known better than either of its sides."""
  a, b = _two(tmp_path, _table(0), _table(1))
  width = lambda ends: ends[1] - ends[0]
  found, _ = runs.differences(a, b, num_resamples=200)
  # Standard deviations of 0.104 and of 0.03 sqrt(2): 2.5 times.
  assert 2 * width(found["item_overlap/mll"].ci95) < width(
      a.numbers["item_overlap/mll"]["ci95"])


def test_rows_of_one_only_are_counted_and_order_does_not_matter(tmp_path):
  first, second = _table(0), _table(1)
  order = np.random.default_rng(3).permutation(N)[:-7]
  shuffled = {k: v[order] for k, v in second.items()}
  a, b = _two(tmp_path, {k: v[3:] for k, v in first.items()}, shuffled)
  found, notes = runs.differences(a, b, num_resamples=50)
  both = sorted(set(range(3, N)) & set(order.tolist()))
  want = np.mean(second["mll"][both] - first["mll"][both])
  assert abs(found["item_overlap/mll"].value - want) < 1e-12
  assert notes == [
      f"item_overlap: {N - 3 - len(both)} of {N - 3} rows are in A only and "
      "not in the difference.",
      f"item_overlap: {N - 7 - len(both)} of {N - 7} rows are in B only and "
      "not in the difference."]


def test_units_are_told_apart_by_as_few_texts_as_it_takes():
  array = lambda *x: np.array(x)
  first = {"study_id": array("s", "s", "t"), "patient_id": array("", "", ""),
           "finding": array("f", "g", "f"), "text": array("x", "y", "z")}
  second = {"study_id": array("t", "s", "s"), "patient_id": array("", "", ""),
            "finding": array("f", "g", "f"), "text": array("q", "q", "q")}
  for got, want in zip(runs.common_rows(first, second), ([0, 1, 2], [2, 1, 0])):
    np.testing.assert_array_equal(got, want)
  # Two of the same kind: the first belongs to the first.
  twice = {"study_id": array("s", "s"), "patient_id": array("", "")}
  once = {"study_id": array("s"), "patient_id": array("")}
  for got, want in zip(runs.common_rows(twice, once), ([0], [0])):
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("other, said", [
    ({"data": "d2"}, "A and B were measured on different data: the digests"),
    ({"split": "valid"}, "(phantom_brain, split test; phantom_brain, split "
                         "valid)"),
    ({"dataset": "studies"}, "A and B were measured on different data"),
    ({"prompt_set": "0123456789"}, "asked by different prompt sets (none, the "
                                   "prompts of the data set, version 1 "
                                   "01234567)")])
def test_what_differs_is_said(other, said, tmp_path):
  pair = _two(tmp_path, _table(0), _table(1), **other)
  found, notes = runs.differences(*pair, num_resamples=10)
  assert len(notes) == 1 and said in notes[0]
  assert found
  assert f"* Note: {notes[0]}" in compare.table(pair, num_resamples=10)


@pytest.mark.parametrize("damage, said", [
    (lambda p: p.unlink(), "There is no"),
    (lambda p: p.write_bytes(p.read_bytes()[:-4]), "cut off"),
    # A whole row less, or another digit: still a table, not that of results.
    (lambda p: p.write_text("".join(p.read_text().splitlines(True)[:-1])),
     "results.json beside it says"),
    (lambda p: p.write_text(p.read_text().replace("0.5,", "0.6,", 1)),
     "results.json beside it says")])
def test_predictions_that_are_not_those_of_the_results(damage, said, tmp_path):
  pair = _two(tmp_path, _table(0), _table(1))
  damage(tmp_path / "b" / "predictions" / "item_overlap.csv")
  found, notes = runs.differences(*pair, num_resamples=10)
  assert not found
  assert notes[0].startswith("item_overlap: no differences.")
  assert said in notes[0] and str(tmp_path / "b") in notes[0]


def test_the_table_of_three(tmp_path):
  pair = _two(tmp_path, _table(0), _table(1, 0.02), **{
      "zeroshot_auc/mean_tcsim": 0.75, "zeroshot_auc/tcsim/x": None})
  third = runs.load(str(_save(tmp_path / "c", _table(2))), "C")
  text = compare.table([*pair, third], num_resamples=100)
  lines = [line for line in text.splitlines() if line.startswith("|")]
  assert len({len(line) for line in lines}) == 1
  rows = _rows(text)
  assert rows["metric"] == ["A", "B", "B - A", "p (B)", "C", "C - A", "p (C)"]
  mll = rows["item_overlap/mll"]
  number = r"[+-]?\d\.\d{3}"
  assert all(re.fullmatch(rf"{number} \[{number}, {number}\]", mll[i])
             for i in (0, 1, 2, 4, 5))
  assert mll[3] == "0.010" and float(mll[6]) > 0.05   # 1 / 101 is the least
  assert rows["zeroshot_auc/mean_tcsim"] == ["-", "0.750"] + ["-"] * 5
  assert rows["zeroshot_auc/tcsim/x"][1] == "undefined"
  assert f"B = {tmp_path / 'b'}: 200 studies of phantom_brain" in text
  assert "Published" not in text
  with pytest.raises(UserError, match="No number has 'auc2' in its name"):
    compare.table(pair, metrics="auc2")
  only = _rows(compare.table(pair, metrics="tcsim/x", num_resamples=10))
  assert [k for k in only if "/" in k] == ["zeroshot_auc/tcsim/x"]


def test_papers_stand_beside_numbers_of_their_data(tmp_path):
  numbers = {"cq500/mean_tcsim": 0.8, "cq500/tcsim/MassEffect": 0.7}
  ours = _save(tmp_path / "a", _table(0), dataset="cq500", **numbers)
  text = compare.table([runs.load(str(ours), "A")])
  rows = _rows(text)
  column = rows["metric"].index("ItemizedCLIP")
  assert rows["cq500/mean_tcsim"][column] == "0.900"
  assert rows["cq500/tcsim/MassEffect"][column] == "0.951 (?)"
  assert rows["item_overlap/mll"][column] == "-"
  assert "* Published: Lyu et al. 2025" in text
  assert "* (?) cq500/tcsim/MassEffect: The released evaluation swaps" in text
  other = _save(tmp_path / "b", _table(0), dataset="studies", **numbers)
  assert "ItemizedCLIP" not in compare.table([runs.load(str(other), "A")])


def test_what_is_no_evaluation_is_refused(tmp_path):
  with pytest.raises(UserError, match="There is no .*results.json"):
    runs.load(str(tmp_path), "A")
  for content in ([], {"about": {}}, {"a/b": 3}):
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="not the results of an evaluation"):
      runs.load(str(tmp_path), "A")


def test_files_without_about_are_shown_without_differences(tmp_path):
  for name in "ab":
    (tmp_path / f"{name}.json").write_text(json.dumps(
        {"pointing/top1": {"value": 0.5, "ci95": [0.4, 0.6], "n": 3}}))
  text = compare.table([runs.load(str(tmp_path / f"{n}.json"), n.upper())
                        for n in "ab"])
  assert _rows(text)["pointing/top1"] == ["0.500 [0.400, 0.600]"] * 2 + [
      "-", "-"]
  assert "Note: A and B: one of the files does not tell what it is of" in text


def test_the_command(tmp_path):
  for name, seed in (("a", 0), ("b", 1)):
    _save(tmp_path / name, _table(seed))
  run = lambda *args: subprocess.run(
      [sys.executable, "-m", "itemclip_jax.tools.compare", *args],
      cwd=ROOT, capture_output=True, text=True, check=False)
  done = run(str(tmp_path / "a"), str(tmp_path / "b" / "results.json"),
             f"--out={tmp_path / 'x.md'}", "--metrics=mll", "--resamples=20")
  assert done.returncode == 0, done.stderr
  assert done.stdout == (tmp_path / "x.md").read_text()
  assert [k for k in _rows(done.stdout) if "/" in k] == ["item_overlap/mll"]
  done = run(f"--out={tmp_path / 'x.md'}")
  assert done.returncode == 2 and "Nothing to compare" in done.stderr
  assert "Traceback" not in done.stderr

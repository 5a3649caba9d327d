"""Studies: what is made of their records; intervals, the page, the figure."""

import math

import numpy as np
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.tools.comparison import definition, figure
from itemclip_jax.tools.comparison import record as record_lib
from itemclip_jax.tools.comparison import summary
from tests.tools.fake_study import MLL, Runner
from tests.tools.fake_study import make, publish, rows_below, run, said


@pytest.fixture(name="fake")
def _fake(tmp_path):
  return make(tmp_path)


def test_two_seeds_have_both_spreads(fake):
  run(fake, Runner(), budget="full", rows=("plain", "better"))
  means = [[said(r, s)["mll"].mean() for s in (0, 1)]
           for r in ("plain", "better")]
  records = record_lib.read_all(fake / "docs/study/fake")
  of = lambda row: [r for r in records if r.row == row]
  found = summary.estimate(of("plain"), MLL)
  assert math.isclose(found.value, np.mean(means[0]), rel_tol=1e-9)
  np.testing.assert_allclose(found.ends, means[0])
  # 30 patients of two studies: of the mean of the two tables' patient means.
  table = (said("plain", 0)["mll"] + said("plain", 1)["mll"]) / 2
  error = table.reshape(-1, 2).mean(1).std() / np.sqrt(30)
  width = found.ci95[1] - found.ci95[0]
  assert abs(width / (2 * 1.96 * error) - 1) < 0.15
  both = np.mean([r.draws(MLL) for r in of("plain")], axis=0)
  np.testing.assert_allclose(found.ci95, np.percentile(both, [2.5, 97.5]))
  gap = summary.difference(of("better"), MLL, of("plain"), MLL)
  assert math.isclose(gap.value, np.mean(means[1]) - np.mean(means[0]),
                      rel_tol=1e-6)
  assert gap.p_value == 1 / (1 + record_lib.NUM_RESAMPLES)
  assert gap.ci95[1] - gap.ci95[0] < width / 4     # pairing is worth it
  assert gap.seeds == (0, 1)
  same = summary.difference(of("plain"), MLL, of("plain"), MLL)
  assert same.value == 0 and same.p_value == 1 and same.ci95 == [0, 0]


def test_only_seeds_of_both_are_subtracted(fake):
  run(fake, Runner(), budget="full", rows=("plain",), seeds=(0, 1))
  run(fake, Runner(), budget="full", rows=("better",), seeds=(1, 2))
  records = record_lib.read_all(fake / "docs/study/fake")
  of = lambda row: [r for r in records if r.row == row]
  gap = summary.difference(of("better"), MLL, of("plain"), MLL)
  assert gap.seeds == (1,) and gap.ends is None
  want = said("better", 1)["mll"].mean() - said("plain", 1)["mll"].mean()
  assert abs(gap.value - want) < 1e-9


def _edited(record: record_lib.Record, **changes) -> record_lib.Record:
  return record_lib.Record(**(vars(record) | changes))


def test_other_patients_are_not_paired_and_other_data_not_subtracted(fake):
  run(fake, Runner(), rows=("plain", "better"))
  better, plain = record_lib.read_all(fake / "docs/study/fake")
  drawn = {k: v | {"sha256": "other"} for k, v in better.resamples.items()}
  gap = summary.difference(
      [_edited(better, resamples=drawn)], MLL, [plain], MLL)
  assert gap.ci95 is None and gap.p_value is None and gap.value > 0
  other = _edited(better, data=better.data | {"sha256": "other"})
  assert summary.difference([other], MLL, [plain], MLL) is None


def test_what_is_undefined_stays_so(fake):
  run(fake, Runner(), rows=("plain",))
  (plain,) = record_lib.read_all(fake / "docs/study/fake")
  nothing = _edited(
      plain, numbers=plain.numbers | {MLL: {"value": None, "ci95": None,
                                            "n": 0}},
      resamples=plain.resamples | {MLL: {
          "sha256": "x", "values": " ".join(["nan"] * 500)}})
  found = summary.estimate([nothing], MLL)
  assert math.isnan(found.value) and found.ci95 is None
  assert summary.estimate([nothing], "item_overlap/none") is None


def test_the_page_shows_numbers_differences_and_the_paper(fake):
  run(fake, Runner())
  text = publish(fake)
  rows = rows_below(text, "**Budget small: numbers**")
  assert list(rows)[0] == "row"
  assert list(rows)[2:] == ["Plain", "Better", "Longer"]
  mean = said("plain", 0)["mll"].mean()
  seeds, worst = rows["Plain"][:2]
  assert seeds == "1" and worst.startswith(f"{mean:.3f} [")
  assert [rows[r][3] for r in ("Plain", "Better", "Longer")] == [
      "40", "30.5", "-"]
  gap = rows_below(text, "**Budget small: paired differences**")["Better - Plain"]
  assert gap[0].startswith("+0.0") and gap[0].endswith("p 0.002")
  assert gap[1] == "+0.000 [+0.000, +0.000] p 1.000"
  assert ("* Order by worst item: Better > Plain; the paper's by MLL x 100: "
          "Plain > Better.") in text
  assert "Somebody 2025, Table 1" in text and "`loss.iis_weight=0.5`" in text
  assert "goes on from Plain, 0.5 of the steps" in text
  assert "Budget full: 40 steps a row, seeds 0, 1; not run yet" in text
  assert (fake / "docs/study/fake.png").stat().st_size > 10_000


def test_notes_survive_and_damaged_marks_are_told(fake):
  empty = publish(fake)
  assert "Not run yet: `./run.sh study --name=fake --budget=small`" in empty
  path = fake / "docs/study.md"
  path.write_text(empty.replace("<!-- notes: fake -->\n",
                                "<!-- notes: fake -->\nWhy? Few steps.\n"))
  run(fake, Runner())
  text = publish(fake)
  assert "<!-- notes: fake -->\nWhy? Few steps.\n<!-- end of notes -->" in text
  assert publish(fake) == text
  for damaged in (text.replace("<!-- end of notes -->", "", 1),
                  text.replace("notes: fake", "notes: gone"),
                  text + "<!-- notes: fake -->\n<!-- end of notes -->\n"):
    path.write_text(damaged)
    with pytest.raises(UserError, match="notes in .*study.md cannot be told"):
      publish(fake)
    assert path.read_text() == damaged


def test_the_figure_shows_the_budget_with_most_rows(fake):
  study = definition.load(fake / "configs", "fake")
  run(fake, Runner())
  run(fake, Runner(), budget="full", rows=("plain",))
  records = record_lib.read_all(fake / "docs/study/fake")
  assert figure.shown_budget(study, records) == "small"
  run(fake, Runner(), budget="full")
  records = record_lib.read_all(fake / "docs/study/fake")
  assert figure.shown_budget(study, records) == "full"

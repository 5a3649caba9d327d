"""Numbers find their evaluator, their row, and what they compare with."""

from itemclip_jax.tools.pages import section_tables
from itemclip_jax.tools.pages import sections
from tests.tools import report_run


def _sections(results, dataset="ct_rate"):
  return {s.name: s for s in sections.sections(
      results, dataset=dataset, table_of=lambda name: None)}


def test_the_untrained_model_stands_beside_ours_under_either_name():
  found = _sections(report_run.results())
  old, new = found["zeroshot_auc"], found["ct_rate"]
  assert old.family("tcsim_untrained")["cyst"]["value"] == 0.4871
  assert new.family("tcsim_untrained")["Atelectasis"]["value"] == (
      0.4911 + 1 / 50)
  assert set(new.family("tcsim")) == {"Emphysema", "Atelectasis", "Lung nodule"}
  (card, _) = sections.cards(new)
  assert [(o["what"], o["value"]) for o in card["others"]][:1] == [
      ("untrained", 0.5077)]
  pointing = {c["title"]: c for c in sections.cards(found["segmentation"])}
  assert [o["what"] for o in pointing["Pointing"]["others"]] == [
      "chance", "untrained"]
  assert [o["value"] for o in pointing["Right series"]["others"]] == [
      0.3389, 0.3391]


def test_ranks_are_published_the_least_first():
  found = _sections({"rsicd/mean_rank": report_run.entry(4.0, 9),
                     "rsicd/top1": report_run.entry(0.4, 9)}, "rsicd")["rsicd"]
  assert list(found.best("mean_rank"))[0] == "ItemizedCLIP"
  assert list(found.best("top1"))[0] == "multi-positive SigLIP"


def test_a_long_table_is_folded():
  results = {f"zeroshot_auc/tcsim/{i}": report_run.entry(0.5, i)
             for i in range(60)}
  (table,) = section_tables.tables(_sections(results)["zeroshot_auc"])
  assert table.folded and [name for name, _ in table.rows] == [
      str(i) for i in range(59, -1, -1)]


def test_published_numbers_are_those_of_the_data_set():
  here, there = (
      sections.cards(_sections(report_run.results(), dataset)["ct_rate"])[0]
      for dataset in ("ct_rate", "phantom_chest"))
  assert "ItemizedCLIP, published" in [o["what"] for o in here["others"]]
  assert [o["what"] for o in there["others"]] == ["untrained"]


def test_calls_at_a_threshold_have_tables_of_their_own():
  tables = section_tables.tables(_sections(report_run.results())["ct_rate"])
  assert [(t.title, t.folded) for t in tables] == [
      ("Task by task", False),
      ("Calls at a threshold, mean over tasks", False),
      ("Calls task by task, @test: chosen on the test labels (published "
       "rule)", True)]
  assert tables[2].head == ["Task", "Accuracy", "Threshold"]


def test_an_evaluator_that_nobody_knows_has_no_headline():
  unknown = _sections(report_run.results())["my_own"]
  assert not sections.cards(unknown) and unknown.title == "My own"

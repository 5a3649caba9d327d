"""Studies: runs that are skipped, resumed and lost; definitions; records."""

import json
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from itemclip_jax.config import comparison, schema
from itemclip_jax.errors import UserError
from itemclip_jax.tools.comparison import definition
from itemclip_jax.tools.comparison import record as record_lib
from itemclip_jax.tools.comparison import work
from itemclip_jax.train.writer import write_json
from tests.tools.fake_study import DEFINITION, MLL, N, Runner
from tests.tools.fake_study import make, publish, rows_below, run

ROOT = pathlib.Path(__file__).parents[2]
STUDIES = ROOT / "configs/study"


@pytest.fixture(name="fake")
def _fake(tmp_path):
  return make(tmp_path)


def test_each_run_leaves_a_record_and_is_not_done_again(fake):
  first = Runner()
  assert run(fake, first) == []
  assert first.did == [
      "prepare phantom_brain 16", "train plain 0", "eval plain 0",
      "train better 0", "eval better 0", "train longer 0", "eval longer 0"]
  folder = fake / "docs" / "study" / "fake"
  record = record_lib.read(folder / "better-small-seed0.json")
  assert record.settings["loss.iis_weight"] == 0.5
  assert record.settings["train.steps"] == record.steps == 10
  assert not {"seed", "data.root"} & record.settings.keys()
  assert record.numbers[MLL]["n"] == N
  assert record.draws(MLL).shape == (record_lib.NUM_RESAMPLES,)
  assert "private" not in (folder / "better-small-seed0.json").read_text()
  again = Runner()
  assert run(fake, again) == [] and again.did == []


def test_a_row_that_goes_on_trains_what_it_starts_from(fake):
  runner = Runner()
  assert run(fake, runner, rows=("longer",)) == []
  assert runner.did[1:] == ["train plain 0", "train longer 0", "eval longer 0"]
  final = fake / "work/fake/longer-small-seed0/final.json"
  assert json.loads(final.read_text())["step"] == 5


def test_an_interrupted_run_goes_on_and_a_crash_costs_one(fake):
  failed = run(fake, Runner("eval better"))
  assert len(failed) == 1 and failed[0].startswith("better-small-seed0: code 1")
  names = lambda: sorted(
      p.name for p in (fake / "docs/study/fake").glob("*.json"))
  assert names() == ["longer-small-seed0.json", "plain-small-seed0.json"]
  again = Runner()
  assert run(fake, again) == []
  assert again.did == ["prepare phantom_brain 16", "eval better 0"]
  assert len(names()) == 3


def test_a_new_training_is_evaluated_anew(fake):
  run(fake, Runner(), rows=("plain",))
  (fake / "docs/study/fake/plain-small-seed0.json").unlink()
  final = fake / "work/fake/plain-small-seed0/final.json"
  write_json(final, {"step": 10, "params_sha256": "another"})
  again = Runner()
  run(fake, again, rows=("plain",))
  assert again.did[1:] == ["eval plain 0"]


def test_runs_at_a_time_change_nothing(fake):
  assert run(fake, Runner(), budget="full", parallel=3) == []
  several = publish(fake)
  for path in (fake / "docs/study/fake").glob("*.json"):
    path.unlink()
  (fake / "docs/study.md").unlink()
  assert run(fake, Runner(), budget="full") == []
  numbers = lambda text: rows_below(text, "Budget full: numbers**")
  assert numbers(publish(fake)) == numbers(several)


def test_other_settings_are_no_second_seed(fake):
  run(fake, Runner(), rows=("better",))
  path = fake / "configs/fake.py"
  path.write_text(DEFINITION.replace("0.5}", "0.7}"))
  with pytest.raises(UserError, match="better-small-seed0.json was run with "
                     "loss.iis_weight = 0.5, but .*fake.py has 0.7; delete"):
    run(fake, Runner(), rows=("better",))
  with pytest.raises(UserError, match="seed1.json was run with .*0.7, but "
                     ".*seed0.json has 0.5"):
    run(fake, Runner(), rows=("better",), seeds=(1,))
    publish(fake)


@pytest.mark.parametrize("damage", [
    lambda text: text[:200],
    lambda text: text.replace('"ci95"', '"ci96"'),
    lambda text: text.replace('"values": "', '"values": "x '),
    lambda text: text.replace('"format": 1', '"format": 2'),
    lambda text: text.replace('"steps": 10', '"steps": "10"'),
    lambda text: text.replace('"seed": 0', '"seed": 1'),
    lambda text: "[]"])
def test_a_broken_record_is_named(fake, damage):
  run(fake, Runner(), rows=("plain",))
  path = fake / "docs/study/fake/plain-small-seed0.json"
  text = path.read_text()
  assert record_lib.read(path)
  path.write_text(damage(text))
  assert path.read_text() != text
  with pytest.raises(UserError, match="plain-small-seed0.json"):
    publish(fake)


def test_a_number_that_is_not_measured_is_an_error(fake):
  path = fake / "configs/fake.py"
  path.write_text(DEFINITION.replace('"mll")', '"mlk")'))
  assert "lacks item_overlap/mlk" in run(fake, Runner(), rows=("plain",))[0]


def _study(**changes) -> comparison.Study:
  number = comparison.Number(title="n", result="a/b")
  return comparison.Study(**({
      "place": 1, "title": "t", "question": "q", "effort": "e",
      "parts": {"p": comparison.Part(
          dataset="d", base=schema.defaults, numbers=(number,))},
      "rows": {"a": comparison.Row(title="A")},
      "budgets": {"small": comparison.Budget(steps=1, seeds=(0,))}} | changes))


def test_rows_may_not_change_what_all_share():
  row = lambda **more: {"a": comparison.Row(title="A", **more)}
  for key in ("train.steps", "optimizer.learning_rate", "vision.width", "seed"):
    with pytest.raises(UserError, match=f"changes {key}, which all rows"):
      _study(rows=row(changes={key: 1}))
  _study(rows=row(changes={"optimizer.learning_rate": 1.0}, start="a"))
  with pytest.raises(UserError, match="names the row 'b'"):
    _study(rows=row(against="b"))
  with pytest.raises(UserError, match="no row 'b'; have a"):
    _study().config("b")


def test_a_published_number_stands_beside_one_of_ours():
  part = comparison.Part(
      dataset="d", base=schema.defaults,
      numbers=(comparison.Number(title="n", result="a/b"),),
      published=(comparison.Published(
          title="x", source="s", values={"a": 1.0}, beside="m"),))
  with pytest.raises(UserError, match="stands beside 'm'"):
    _study(parts={"p": part})


def test_a_process_fails_with_its_last_line_and_ends_when_asked(tmp_path):
  run, log = work.Processes(), tmp_path / "log.txt"
  lock = open(tmp_path / "lock", "w")  # pylint: disable=consider-using-with
  python = lambda code: [sys.executable, "-c", code]
  with lock:
    with pytest.raises(work.RunFailed, match="code 3; see .*log.txt.*: oh no"):
      run(python("print('oh no'); raise SystemExit(3)"), log, lambda: None,
          lock.fileno())
    began = time.monotonic()
    threading.Timer(0.5, run.end).start()
    with pytest.raises(work.RunFailed, match="ended with code"):
      run(python("import time; time.sleep(60)"), log, lambda: None,
          lock.fileno())
    assert time.monotonic() - began < 20


def test_tuning_is_that_of_the_script():
  script = (ROOT / "run.sh").read_text()
  for value in work.TUNING.values():
    assert all(part in script for part in value.split(":"))


@pytest.mark.parametrize("name", definition.names(STUDIES))
def test_every_row_of_every_study_is_a_valid_config(name):
  study = definition.load(STUDIES, name)
  assert {"small", "full"} == set(study.budgets)
  for row in study.rows:
    config = schema.from_config_dict(study.config(row))
    part = study.part(row)
    assert config.data.dataset == part.dataset
    measured = {*config.eval.evaluators, "pointing"}   # of segmentation
    for number in part.numbers:
      assert number.name(study.rows[row]).split("/")[0] in measured


def test_an_unknown_study_or_budget_is_told(fake):
  with pytest.raises(UserError, match="no study 'fale'; have fake"):
    definition.load(fake / "configs", "fale")
  with pytest.raises(UserError, match="no budget 'big'; have small, full"):
    run(fake, Runner(), budget="big")
  with pytest.raises(UserError, match="no row 'best'; have plain, better"):
    run(fake, Runner(), rows=("best",))


def test_the_command_writes_the_page(fake):
  done = subprocess.run(
      [sys.executable, "-m", "itemclip_jax.tools.study", "--table_only",
       f"--studies={fake / 'configs'}", f"--out={fake / 'docs/study'}"],
      capture_output=True, text=True, cwd=ROOT, check=False)
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == str(fake / "docs/study.md")
  assert "## A fake study" in (fake / "docs/study.md").read_text()

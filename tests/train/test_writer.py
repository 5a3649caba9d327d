"""Metrics survive interruptions, and JSON stays JSON."""

import json
import math

from itemclip_jax.train import writer


def lines(workdir):
  return [json.loads(line)
          for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_drops_the_lines_of_later_steps(tmp_path):
  first = writer.Writer(tmp_path, 0)
  for step in range(4):
    first(step, {"loss": float(step)})
  first.close()
  resumed = writer.Writer(tmp_path, 2)
  assert [line["step"] for line in lines(tmp_path)] == [0, 1]
  resumed(2, {"loss": 9.0})
  resumed.close()
  assert [line["loss"] for line in lines(tmp_path)] == [0.0, 1.0, 9.0]


def test_a_validation_line_is_as_old_as_its_checkpoint(tmp_path):
  first = writer.Writer(tmp_path, 0)
  first(1, {"loss": 1.0})
  first(2, {"valid/loss": 5.0})
  first(2, {"loss": 2.0})
  first(4, {"valid/loss": 4.0})
  first.close()
  writer.Writer(tmp_path, 2).close()
  assert lines(tmp_path) == [{"step": 1, "loss": 1.0},
                             {"step": 2, "valid/loss": 5.0}]


def test_the_clock_stays_out_of_the_metrics(tmp_path):
  log = writer.Writer(tmp_path, 0)
  log(0, {"loss": 1.0}, {"time/step_s": 0.5})
  log.close()
  assert lines(tmp_path) == [{"step": 0, "loss": 1.0}]
  (timing,) = (tmp_path / "timing.jsonl").read_text().splitlines()
  assert json.loads(timing) == {"step": 0, "time/step_s": 0.5}


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
  for rest in ('{"step": 1, "lo', '{"step": 1, "loss": 2.0}'):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 0, "loss": 1.0}\n' + rest)
    writer.Writer(tmp_path, 5).close()
    assert lines(tmp_path) == [{"step": 0, "loss": 1.0}]


def test_numbers_that_are_not_finite_become_null(tmp_path):
  log = writer.Writer(tmp_path, 0)
  log(0, {"loss": math.nan, "norm": math.inf, "ok": 1.5})
  log.close()
  assert lines(tmp_path) == [{"step": 0, "loss": None, "norm": None, "ok": 1.5}]
  writer.write_json(tmp_path / "x.json", {"a": [math.nan, (1.0, -math.inf)],
                                          "b": {"c": "nan"}})
  assert json.loads((tmp_path / "x.json").read_text()) == {
      "a": [None, [1.0, None]], "b": {"c": "nan"}}


def test_each_line_is_on_disk_before_the_run_goes_on(tmp_path):
  log = writer.Writer(tmp_path, 0)
  log(0, {"loss": 1.0})
  assert lines(tmp_path) == [{"step": 0, "loss": 1.0}]
  log.close()


def test_json_files_appear_whole(tmp_path):
  writer.write_json(tmp_path / "x.json", {"a": 1})
  assert [p.name for p in tmp_path.iterdir()] == ["x.json"]

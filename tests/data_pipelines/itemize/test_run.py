"""Files: in order, in bounded memory, and on after a kill."""

import dataclasses
import json
import os
import pathlib
import threading
import time
import traceback
import tracemalloc

import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import run
from data_pipelines.itemize.contract import Draft, Item
from data_pipelines.itemize.run import Plan
from tests.data_pipelines.itemize.fixed import Fixed

SECRET = "Xanthous lesion of the spleen"   # never in an error


def _line(n: int, text: str | None = None) -> str:
  said = (f"There is a {n + 3} mm nodule in the left lower lobe. The heart is "
          "normal in size. No pleural effusion is seen.")
  return json.dumps({"id": f"r{n}", "sections": {
      "findings": said if text is None else text}})


def _input(path: pathlib.Path, count: int, **changes) -> pathlib.Path:
  lines = [changes.get(f"r{n}", _line(n)) for n in range(count)]
  path.write_text("\n".join(lines) + "\n")
  return path


PLAN = Plan("ctrate_abnormal")


def _lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_results_are_in_the_order_of_the_input(tmp_path):
  x = _input(tmp_path / "x.jsonl", 7, r3=_line(3, "The lungs are clear."),
             r5=_line(5, ""))
  numbers = run.run(x, tmp_path / "y.jsonl", PLAN)
  made = _lines(tmp_path / "y.jsonl")
  assert [value["id"] for value in made] == [f"r{n}" for n in range(7)]
  assert [value["items"][0]["text"] for value in made[:2]] == [
      "There is a 3 mm nodule in the left lower lobe.",
      "There is a 4 mm nodule in the left lower lobe."]
  assert numbers["records"] == 7 and numbers["items"] == 6
  assert numbers["normal"] == 1 and numbers["warnings"] == {"empty": 1}
  assert numbers["dropped"] == {"normal": 11}
  assert sorted(p.name for p in tmp_path.iterdir()) == [
      "x.jsonl", "y.jsonl", "y.jsonl.run.json"]
  about = json.loads((tmp_path / "y.jsonl.run.json").read_text())
  assert about["summary"] == numbers and about["input"] == str(x)


def test_terms_of_the_users_own(tmp_path):
  x = _input(tmp_path / "x.jsonl", 1, r0=_line(0, "The lungs are hunky dory."))
  own = tmp_path / "own.json"
  own.write_text(json.dumps({"normal": ["hunky dory"]}))
  run.run(x, tmp_path / "y", PLAN)
  run.run(x, tmp_path / "z", dataclasses.replace(PLAN, lexicon=str(own)))
  assert not _lines(tmp_path / "y")[0]["normal"]
  assert _lines(tmp_path / "z")[0]["normal"]
  own.write_text("{}")
  with pytest.raises(PrepareError, match="was made with lexicon"):
    run.run(x, tmp_path / "z", dataclasses.replace(PLAN, lexicon=str(own)))
  with pytest.raises(PrepareError, match="lexicon .*none cannot be read"):
    run.run(x, tmp_path / "w", dataclasses.replace(
        PLAN, lexicon=str(tmp_path / "none")))


def test_any_number_of_workers_makes_the_same_bytes(tmp_path):
  x = _input(tmp_path / "x.jsonl", 300)   # enough that processes are started
  run.run(x, tmp_path / "one", PLAN, num_workers=1)
  run.run(x, tmp_path / "two", PLAN, num_workers=2)
  assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


class Slow(Fixed):
  """Answers out of order; notes how many questions are under way."""

  def __init__(self):
    super().__init__()
    self.busy = self.most = 0
    self.lock = threading.Lock()

  def items(self, recipe, record):
    with self.lock:
      self.busy += 1
      self.most = max(self.most, self.busy)
    time.sleep(0.02 if int(record.id[1:]) % 3 == 0 else 0)
    with self.lock:
      self.busy -= 1
    return Draft((Item(f"A mass in {record.id}."),), backend=self.name)


def test_questions_are_answered_at_once_and_written_in_order(tmp_path):
  x = _input(tmp_path / "x.jsonl", 40)
  chat = Slow()
  run.run(x, tmp_path / "y", Plan("dedup"), chat=chat, num_workers=4)
  assert [v["id"] for v in _lines(tmp_path / "y")] == [
      f"r{n}" for n in range(40)]
  x.write_text("\n".join(json.dumps({"id": f"r{n}", "captions": ["a mass"]})
                         for n in range(40)))
  run.run(x, tmp_path / "z", Plan("dedup"), chat=chat, num_workers=4)
  assert 1 < chat.most <= 4
  assert [v["items"][0]["text"] for v in _lines(tmp_path / "z")] == [
      f"A mass in r{n}." for n in range(40)]


class Killed(Exception):
  pass


class Mortal(Fixed):
  """Ends the run at a record."""

  def __init__(self, last, error=Killed):
    super().__init__()
    self.last, self.error = last, error

  def items(self, recipe, record):
    if record.id == self.last:
      raise self.error(SECRET)
    return Draft((Item(f"A mass, {record.sections['findings'][:20]}."),),
                 backend=self.name)


@pytest.mark.parametrize("torn", [b"", b'{"id": "r5", "it', b'{"id": "r5"}',
                                  b"\0\0\0\0\n"])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, torn):
  x, y = _input(tmp_path / "x.jsonl", 12), tmp_path / "y.jsonl"
  undisturbed = tmp_path / "undisturbed"
  run.run(x, undisturbed, PLAN, chat=Mortal(None))
  with pytest.raises(RuntimeError):
    run.run(x, y, PLAN, chat=Mortal("r5"))
  partial = tmp_path / "y.jsonl.partial"
  assert not y.exists() and len(_lines(partial)) == 5
  with open(partial, "ab") as file:
    file.write(torn)   # a kill in the middle of a line
  second = Mortal("r1")   # would fail if it were asked again
  numbers = run.run(x, y, PLAN, chat=second)
  assert y.read_bytes() == undisturbed.read_bytes()
  assert not partial.exists() and numbers["records"] == 12


def test_a_finished_run_is_used_again_and_a_limited_one_goes_on(tmp_path):
  x, y = _input(tmp_path / "x.jsonl", 9), tmp_path / "y.jsonl"
  run.run(x, y, PLAN, chat=Mortal(None), limit=4)
  assert len(_lines(y)) == 4
  before = y.stat().st_ctime_ns
  again = run.run(x, y, PLAN, chat=Mortal("r0"), limit=4)
  assert again["records"] == 4 and y.stat().st_ctime_ns == before
  run.run(x, y, PLAN, chat=Mortal("r3"))
  assert [v["id"] for v in _lines(y)] == [f"r{n}" for n in range(9)]
  with pytest.raises(PrepareError, match="more than the 4 results asked for"):
    run.run(x, y, PLAN, chat=Mortal("r0"), limit=4)
  assert len(_lines(y)) == 9


def test_what_another_run_began_is_not_gone_on_with(tmp_path):
  x, y = _input(tmp_path / "x.jsonl", 6), tmp_path / "y.jsonl"
  with pytest.raises(RuntimeError):
    run.run(x, y, PLAN, chat=Mortal("r3"))
  before = (tmp_path / "y.jsonl.partial").read_bytes()
  other = Mortal(None)
  other.name = "chat:other"
  for plan, chat, said in (
      (Plan("summary_list"), Mortal(None), "recipe 'ctrate_abnormal', asked"),
      (PLAN, other, "backend 'chat:fixed', asked for is 'chat:other'"),
      (PLAN, None, "asked for is 'rules'"),
      (dataclasses.replace(PLAN, max_items=3), Mortal(None), "max_items 20")):
    with pytest.raises(PrepareError, match=said):
      run.run(x, y, plan, chat=chat)
    (tmp_path / "y.jsonl.run.json").rename(tmp_path / "kept")
    if plan.max_items == 20:    # the lines alone tell
      with pytest.raises(PrepareError, match=r"was made with (recipe|backend)"):
        run.run(x, y, plan, chat=chat)
    (tmp_path / "kept").rename(tmp_path / "y.jsonl.run.json")
  _input(x, 6, r1=_line(1, SECRET))
  with pytest.raises(PrepareError, match="another input: record 'r1'") as error:
    run.run(x, y, PLAN, chat=Mortal(None))
  assert SECRET not in str(error.value)
  assert (tmp_path / "y.jsonl.partial").read_bytes() == before


def test_a_file_of_others_is_not_overwritten(tmp_path):
  x, y = _input(tmp_path / "x.jsonl", 2), tmp_path / "y.jsonl"
  y.write_text('{"mine": 1}\n')
  with pytest.raises(PrepareError, match="Line 1 of .*y.jsonl is not what"):
    run.run(x, y, PLAN)
  assert y.read_text() == '{"mine": 1}\n'


def test_two_runs_do_not_write_the_same_file(tmp_path):
  x, y = _input(tmp_path / "x.jsonl", 3), tmp_path / "y.jsonl"

  class Second(Mortal):
    def items(self, recipe, record):
      if record.id == "r1":
        with pytest.raises(PrepareError, match="Another run is writing"):
          run.run(x, y, PLAN, chat=Mortal(None))
      return super().items(recipe, record)

  run.run(x, y, PLAN, chat=Second(None))
  assert len(_lines(y)) == 3


def test_a_failure_names_the_record_and_not_its_text(tmp_path):
  x = _input(tmp_path / "x.jsonl", 3, r1=_line(1, SECRET))
  with pytest.raises(RuntimeError, match="Record 'r1' .line 2 of x.jsonl. "
                     "ended with Killed") as caught:
    run.run(x, tmp_path / "y", PLAN, chat=Mortal("r1"))
  assert SECRET not in "".join(traceback.format_exception(caught.value))
  with pytest.raises(PrepareError, match=SECRET):   # told as it is
    run.run(x, tmp_path / "z", PLAN, chat=Mortal("r1", PrepareError))


@pytest.mark.parametrize("raw, said", [
    (b'{"id": "r1", "sections": {"text": "%s"}', "Line 2 of x.jsonl is not JS"),
    (b'"%s"', "Line 2 of x.jsonl is a text"),
    (b'{"sections": {"text": "%s"}}', "Line 2 of x.jsonl has no id"),
    (b'{"id": "r1", "text": "%s"}', "'r1' .line 2 of x.jsonl. has neither"),
    (b'{"id": "r0", "captions": ["%s"]}',
     "'r0' .line 2 of x.jsonl. has the id of a line before it"),
    (b"[" * 100_000, "Line 2 of x.jsonl is not JSON")])
def test_bad_lines_are_refused_before_anything_is_done(tmp_path, raw, said):
  x, chat = tmp_path / "x.jsonl", Fixed()
  raw = raw % SECRET.encode() if b"%s" in raw else raw
  x.write_bytes(_line(0).encode() + b"\n" + raw + b"\n" + _line(2).encode())
  with pytest.raises(PrepareError, match=said) as caught:
    run.run(x, tmp_path / "y", PLAN, chat=chat)
  assert SECRET not in str(caught.value) and not chat.asked
  assert not (tmp_path / "y.jsonl.partial").exists()


def test_many_bad_lines_are_counted(tmp_path):
  x = tmp_path / "x.jsonl"
  x.write_text("{\n" * 9)
  with pytest.raises(PrepareError, match="And 4 more of 9 lines") as caught:
    run.run(x, tmp_path / "y", PLAN)
  assert str(caught.value).count("\n") == 5


def test_other_files_are_refused(tmp_path):
  x, y = tmp_path / "x.jsonl", tmp_path / "y"
  with pytest.raises(PrepareError, match="cannot be read .No such file"):
    run.run(x, y, PLAN)
  x.write_text("\n \n")
  with pytest.raises(PrepareError, match="holds no line"):
    run.run(x, y, PLAN)
  x.write_text(_line(0), encoding="utf-16")
  with pytest.raises(PrepareError, match="is UTF-16; save it as UTF-8"):
    run.run(x, y, PLAN)


def test_encodings_are_mended_with_a_warning(tmp_path):
  x = tmp_path / "x.jsonl"
  text = "A 5 mm nodule\u2019s margin in the left lower lobe."
  line = json.dumps({"id": "é", "sections": {"text": text}},
                    ensure_ascii=False)
  x.write_bytes(b"\xef\xbb\xbf" + _line(0).encode() + b"\r\n\r\n"
                + line.encode("cp1252"))
  run.run(x, tmp_path / "y", PLAN)
  first, second = _lines(tmp_path / "y")
  assert first["warnings"] == []
  assert second["id"] == "é" and "encoding" in second["warnings"]
  assert "5 mm" in second["items"][0]["text"]


def test_memory_does_not_grow_with_the_file(tmp_path):
  """5 MB go through; what grows is an id's digest and nothing else."""
  x, count = tmp_path / "x.jsonl", 1500
  with open(x, "w") as file:
    for n in range(count):
      file.write(json.dumps({"id": f"r{n}", "captions": [
          f"a mass {n} {k} " + "with a border " * 20 for k in range(10)]})
                 + "\n")
  size = os.path.getsize(x)
  assert size > 4_500_000
  plan, chat = Plan("verify2"), Fixed()
  run.run(_input(tmp_path / "warm.jsonl", 3), tmp_path / "warm", plan,
          chat=chat)
  tracemalloc.start()
  try:
    run.run(x, tmp_path / "y", plan, chat=chat, num_workers=2)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert chat.asked >= count and peak < 1_500_000

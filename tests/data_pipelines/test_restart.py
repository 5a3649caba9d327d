"""The same bytes for any number of workers, any runner, after any stop."""

import functools
import hashlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import kept
from data_pipelines import prepare
from data_pipelines.result import Result
from data_pipelines.volumes import study as study_lib
from itemclip_jax.data import record

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def source(archive) -> pathlib.Path:
  """Five studies to keep and one to reject, in two splits."""
  for number in range(5):
    voxels = np.random.default_rng(number).uniform(size=(8, 8, 4))
    archive.add(f"s{number}", voxels, split="test" if number > 3 else "train")
  archive.add("flat", np.ones((8, 8, 4)))
  for split, entries in archive.entries.items():
    (archive.root / f"{split}.json").write_text(json.dumps(entries))
  return archive.root


def _build(source, out, *, num_workers=1, **runner):
  dataset = datasets.make("studies", source=str(source), keep_ids=True,
                          shape=(4, 8, 8), resize=(4, 8, 8))
  prepare.build(dataset, out, num_workers=num_workers, **runner)
  return _digests(out)


def _digests(out):
  return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()
          for p in sorted(out.rglob("*")) if p.is_file()}


def _counting(monkeypatch, *, stop_after=None):
  """Makes make_record note its studies, and stop like a user's Ctrl-C."""
  made, make_record = [], study_lib.make_record

  @functools.wraps(make_record)
  def counted(job):
    if len(made) == stop_after:
      raise KeyboardInterrupt
    made.append(job.study)
    return make_record(job)

  monkeypatch.setattr(study_lib, "make_record", counted)
  return made


def test_another_process_with_more_workers_writes_the_same_bytes(
    source, tmp_path):
  here = _build(source, tmp_path / "here")
  there = tmp_path / "there"
  subprocess.run(
      [sys.executable, "-m", "data_pipelines.prepare", "--dataset=studies",
       f"--source={source}", f"--out={there}", "--keep_ids", "--shape=4,8,8",
       "--resize=4,8,8", "--workers=2"],
      cwd=ROOT, check=True, capture_output=True)
  assert any("array_record" in name for name in here)
  assert here == _digests(there)


@pytest.mark.parametrize("stop_after", [0, 2, 5])
def test_what_was_done_before_an_interruption_is_not_done_again(
    source, tmp_path, monkeypatch, stop_after):
  whole = _build(source, tmp_path / "whole")
  with monkeypatch.context() as patch:
    first = _counting(patch, stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
      _build(source, tmp_path / "out")
  second = _counting(monkeypatch)
  assert _build(source, tmp_path / "out") == whole
  done = set(first) - {"flat"}  # cheap to reject, and it may be mended
  assert len(first) == stop_after and not done & set(second)
  assert set(first) | set(second) == {"s0", "s1", "s2", "s3", "s4", "flat"}


def test_a_stop_while_shards_are_written_loses_no_study(
    source, tmp_path, monkeypatch):
  whole = _build(source, tmp_path / "whole")
  def stop(*args):
    raise KeyboardInterrupt
  with monkeypatch.context() as patch:
    patch.setattr(prepare.tfds.core.writer.Writer, "finalize", stop)
    with pytest.raises(KeyboardInterrupt):
      _build(source, tmp_path / "out")
  made = _counting(monkeypatch)
  assert _build(source, tmp_path / "out") == whole
  assert "s0" not in made and "flat" in made


def test_a_study_whose_report_changed_is_made_again(
    source, tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    _counting(patch, stop_after=3)
    with pytest.raises(KeyboardInterrupt):
      _build(source, tmp_path / "out")
  entries = json.loads((source / "train.json").read_text())
  entries["s0"]["report"] = ["Mended."]
  (source / "train.json").write_text(json.dumps(entries))
  made = _counting(monkeypatch)
  _build(source, tmp_path / "out")
  split = record.open_split(tmp_path / "out", "train")
  assert "s0" in made and "s1" not in made
  assert ["Mended."] in [split.study(i)["items"] for i in range(4)]


def test_a_damaged_file_of_a_study_is_made_again(tmp_path):
  job = "job"
  keeper = kept.Kept(_result, tmp_path)
  path = keeper(job)
  assert path == keeper(job) and path.is_file()
  whole = keeper.load(path, job)
  path.write_bytes(path.read_bytes()[:-30])
  again = keeper.load(path, job)
  for a, b in zip(whole.record.values(), again.record.values()):
    np.testing.assert_array_equal(a, b)


def _result(job):
  return Result(job, {"x": np.arange(6, dtype=np.uint8).reshape(2, 3),
                      "name": job, "normal": True, "many": ["a", "b"],
                      "none": np.zeros(0, np.int32)}, ({"note": "n"},))


def test_a_kept_result_comes_back_as_it_was(tmp_path):
  want = _result("job")
  kept.write(tmp_path / "x.npz", want)
  got = kept.read(tmp_path / "x.npz")
  assert got.study == want.study and got.log == want.log
  assert list(got.record) == list(want.record)
  for name, value in want.record.items():
    assert type(got.record[name]) is type(value)
    np.testing.assert_array_equal(got.record[name], value)
  assert got.record["none"].dtype == np.int32


def test_beam_writes_the_same_bytes(source, tmp_path, monkeypatch):
  pytest.importorskip("apache_beam")
  here = _build(source, tmp_path / "here")
  made = _counting(monkeypatch)
  assert _build(source, tmp_path / "there", runner="direct") == here
  # Once by Beam, but for the rejected one, which tells its reason here again.
  assert sorted(made) == ["flat", "flat", "s0", "s1", "s2", "s3", "s4"]


def test_a_runner_that_does_not_exist_is_an_error(source, tmp_path):
  pytest.importorskip("apache_beam")
  with pytest.raises(errors.PrepareError, match="cannot start --runner=nobody"):
    _build(source, tmp_path / "out", runner="nobody")


def test_beam_is_asked_for_where_it_is_missing(source, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "apache_beam", None)
  with pytest.raises(errors.PrepareError, match=r"itemclip_jax\[beam\]"):
    _build(source, tmp_path / "out", runner="direct")

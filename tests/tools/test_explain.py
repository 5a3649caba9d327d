"""Answers about one study: the right numbers and files, clear refusals."""

import dataclasses
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import nibabel as nib
import numpy as np
import pytest

from itemclip_jax.data import record, series_name
from itemclip_jax.errors import UserError
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.tools import explain
from itemclip_jax.tools.study_files import one_study
from itemclip_jax.train import loop, trained
from itemclip_jax.train.checkpoint import Checkpoints
from tests import tiny

TEXTS = ("Acute infarct of the left frontal lobe.", "A cyst is seen.")


@pytest.fixture(name="run", scope="module")
def _run(tiny_set, tmp_path_factory):
  """Work directory of two steps."""
  workdir = tmp_path_factory.mktemp("explain")
  loop.train(tiny.config(tiny_set), make_mesh(1, 1, jax.devices()[:1]), workdir)
  return workdir


@pytest.fixture(name="model", scope="module")
def _model(run):
  return trained.load(run, make_mesh(1, 1, jax.devices()[:1]))


@pytest.fixture(name="raw", scope="module")
def _raw(tiny_set):
  """A raw study with a coronal series, as most have."""
  return next(p for p in sorted((tiny_set / "raw/test").iterdir())
              if any(s.name.startswith("COR") for s in p.iterdir()))


@pytest.fixture(name="answered", scope="module")
def _answered(run, raw, tmp_path_factory):
  out = tmp_path_factory.mktemp("answered")
  explain.explain(run, raw, out, texts=TEXTS)
  return out


def _scores(out: pathlib.Path):
  return json.loads((out / "scores.json").read_text())


def test_every_overlay_has_the_geometry_of_its_original(answered, raw):
  scores = _scores(answered)
  assert len(scores["series"]) == len(list(raw.glob("*/img.nii.gz")))
  for text, series in itertools.product(scores["texts"], scores["series"]):
    name = text["picture"].replace(".png", f"_{series['name']}.nii.gz")
    assert name in text["overlays"]
    file = raw / series["name"] / "img.nii.gz"
    assert series["file"] == str(file)
    made, original = nib.load(answered / name), nib.load(file)
    assert made.shape == original.shape
    np.testing.assert_array_equal(made.affine, original.affine)
    assert made.get_data_dtype() == np.float32
    assert made.header["cal_max"] == pytest.approx(text["top_token"]["weight"])
  assert all((answered / t["picture"]).stat().st_size for t in scores["texts"])


def test_the_top_token_is_the_hottest_place_of_all_overlays(answered):
  for text in _scores(answered)["texts"]:
    top = text["top_token"]
    values = {name: np.asarray(nib.load(answered / name).dataobj)
              for name in text["overlays"]}
    hottest = max(values, key=lambda name: values[name].max())
    assert hottest.endswith(f"_{top['series']}.nii.gz")
    peak = np.unravel_index(values[hottest].argmax(), values[hottest].shape)
    assert all(a <= p < b for p, (a, b) in zip(peak, top["file_box"]))
    affine = nib.load(answered / hottest).affine
    off = (affine @ [*top["file_voxel"], 1])[:3] - top["centre_ras_mm"]
    half = np.abs(affine[:3, :3]).sum(1) / 2
    assert (np.abs(off) <= half + 0.01).all()  # rounded to two digits


def test_shares_sum_to_one_and_name_the_best_series(answered):
  for text in _scores(answered)["texts"]:
    share = text["series_share"]
    assert sum(share.values()) == pytest.approx(1)
    assert text["best_series"] == max(share, key=share.get)
    assert 0 < text["attends_to_nothing"] < 1
    assert text["unknown_word_pieces"] == 0 and not text["warnings"]


def test_a_record_gets_the_scores_of_its_raw_files(
    answered, run, raw, tiny_set, tmp_path):
  explain.explain(run, tiny_set, tmp_path, texts=TEXTS,
                  record_name=f"test/{raw.name}")
  here, there = _scores(tmp_path), _scores(answered)
  for a, b in zip(here["texts"], there["texts"]):
    for key in ("tcsim", "global_cosine", "pair_probability",
                "attends_to_nothing"):
      # float32; the series stand in another order
      assert a[key] == pytest.approx(b[key], abs=1e-5)
    assert a["series_share"] == pytest.approx(b["series_share"], abs=1e-5)
  assert {s["file"] for s in here["series"]} == {
      s["file"] for s in there["series"]}


def test_scores_are_those_of_evaluation(answered, model, raw):
  """Against the model's own methods, the study padded as a batch pads it."""
  case = one_study.read_raw(raw, model.contract)
  padded = lambda x: np.pad(x, [(0, 2)] + [(0, 0)] * (x.ndim - 1))[None]
  names = np.stack([series_name.codes(
      n, model.config.vision.name_length) for n in case.series_names])
  encoded = model.encoder.studies(
      model.params, padded(case.volume), padded(np.ones(len(names), bool)),
      padded(names))
  texts = model.encoder.texts(model.params, model.tokenizer(list(TEXTS)))
  local, overall = model.encoder.scores(model.params, encoded, texts)
  rows = _scores(answered)["texts"]
  np.testing.assert_allclose([t["tcsim"] for t in rows], local[0], atol=1e-5)
  np.testing.assert_allclose([t["global_cosine"] for t in rows], overall[0],
                             atol=1e-5)
  np.testing.assert_allclose([t["pair_probability"] for t in rows],
                             model.pair_probability(local[0]), atol=1e-5)


def test_without_text_a_record_is_asked_for_its_own_report(
    run, tiny_set, tmp_path):
  split = record.open_split(tiny_set, "test")
  i = int(np.argmin(split.index["normal"]))
  name = f"test/{split.index['study_id'][i]}"
  explain.explain(run, tiny_set, tmp_path, record_name=name)
  assert [t["text"] for t in _scores(tmp_path)["texts"]] == (
      split.source[i]["items"])


def test_without_its_originals_a_record_is_drawn_as_stored(
    run, tiny_set, raw, tmp_path):
  moved = tmp_path / "set"
  shutil.copytree(tiny_set, moved, ignore=shutil.ignore_patterns("raw"))
  explain.explain(run, moved, tmp_path / "out", texts=TEXTS[:1],
                  record_name=f"test/{raw.name}")
  scores = _scores(tmp_path / "out")
  (text,) = scores["texts"]
  assert "are not at hand" in scores["notes"][0]
  assert text["top_token"]["file_voxel"] is None
  made = nib.load(tmp_path / "out" / text["overlays"][0])
  stored = one_study.read_record(
      moved, f"test/{raw.name}", record.read_contract(moved), checkpoint="it")
  assert made.shape == stored.volume.shape[1:]
  np.testing.assert_allclose(made.affine, stored.affine[0], atol=1e-4)


def test_a_record_of_another_contract_is_refused(model, tiny_set, raw):
  other = dataclasses.replace(model.contract, intensity="logarithms")
  with pytest.raises(ValueError, match="preprocessing differs: intensity"):
    one_study.read_record(tiny_set, f"test/{raw.name}", other, checkpoint="it")


@pytest.mark.parametrize("name, error", [
    ("test", "names no study; want SPLIT/STUDY"),
    ("test/nobody", "has no study 'nobody'; it has 10, such as"),
    ("tests/x", "no split 'tests'")])
def test_a_record_that_is_not_there_is_one_sentence(
    model, tiny_set, name, error):
  with pytest.raises(ValueError, match=error):
    one_study.read_record(tiny_set, name, model.contract, checkpoint="it")


def test_words_that_the_model_cannot_read_are_told(model, raw):
  case = one_study.read_raw(raw, model.contract)
  plain, foreign, long = explain.answer(
      model, case, ["a cyst", "脑 出血 cyst", "cyst " * 200])
  assert plain.unknown == 0 and plain.warnings == ()
  assert foreign.unknown > 0.5 and "cannot read them" in foreign.warnings[0]
  assert "what is behind them is cut" in long.warnings[0]


def test_texts_must_say_something(run, raw, tmp_path):
  with pytest.raises(ValueError, match="Text 2 of 2 is empty"):
    explain.explain(run, raw, tmp_path, texts=("a cyst", " "))
  with pytest.raises(ValueError, match="There is no --text"):
    explain.explain(run, raw, tmp_path)


def test_best_and_step_choose_the_checkpoint(run, raw, tmp_path, monkeypatch):
  with Checkpoints(run, read_only=True) as checkpoints:
    newest, best = checkpoints.latest(), checkpoints.best()
  for given, step in (({"best": True}, best), ({"step": newest}, newest)):
    scores = explain.explain(run, raw, tmp_path, texts=TEXTS[:1], **given)
    assert scores["step"] == step
  with pytest.raises(UserError, match="step 77"):
    explain.explain(run, raw, tmp_path, texts=TEXTS[:1], step=77)
  with pytest.raises(UserError, match="both choose a checkpoint"):
    explain.explain(run, raw, tmp_path, texts=TEXTS[:1], step=1, best=True)
  with monkeypatch.context() as patched:
    patched.setattr(Checkpoints, "best", lambda self: 1041)
    with pytest.raises(UserError, match="step 1041"):
      explain.explain(run, raw, tmp_path, texts=TEXTS[:1], best=True)
  with pytest.raises(UserError, match="There is no best checkpoint"):
    explain.explain(tmp_path, raw, tmp_path, texts=TEXTS[:1], best=True)


def _page(out):
  return (out / "index.html").read_text(encoding="utf-8")


def test_the_page_needs_no_script_and_no_file_but_links_to_its_own(answered):
  page = _page(answered)
  # The letters of a picture may spell anything by chance.
  bare = re.sub("(?<=;base64,)[A-Za-z0-9+/=]+", "", page)
  for forbidden in ("<script", "<link", "@import", "url(", "http"):
    assert forbidden not in bare
  images = re.findall(r"<img [^>]*>", page)
  assert len(images) == 2 * len(TEXTS)
  for image in images:
    assert 'src="data:image/png;base64,' in image
    assert re.search(r'alt="[^"]{20,}"', image)
  links = re.findall(r'href="([^"#][^"]*)"', page)
  assert {l for t in _scores(answered)["texts"] for l in t["overlays"]} | {
      "scores.json"} == set(links)
  assert all((answered / link).is_file() for link in links)


def test_the_page_says_all_that_matters(answered, raw):
  page, scores = _page(answered), _scores(answered)
  for text in scores["texts"]:
    for fact in (text["text"], f"{text['tcsim']:.3f}", text["best_series"],
                 f"{text['global_cosine']:.3f}",
                 f"{text['pair_probability']:.3f}"):
      assert fact in page
    assert text["top_token"]["place"].replace("'", "&#39;") in page
  for fact in (raw.name, "Not a medical device", "How to read this",
               f"<dd>{scores['step']}</dd>", scores["checkpoint"]):
    assert fact in page


def _command(*args):
  return subprocess.run(
      [sys.executable, "-m", "itemclip_jax.tools.explain", *args],
      cwd=pathlib.Path(__file__).parents[2], capture_output=True, text=True,
      check=False)


@pytest.mark.parametrize("args, error", [
    (["--checkpoint={tmp}", "--study={tmp}"], "There is no checkpoint in"),
    (["--checkpoint={tmp}", "--study={tmp}", "cyst"], "'cyst' belongs to no")])
def test_a_mistake_on_the_command_line_is_one_sentence(tmp_path, args, error):
  done = _command(f"--out={tmp_path}", "--text=a cyst",
                  *(a.format(tmp=tmp_path) for a in args))
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert line.startswith("itemclip_jax: ") and error in line

"""Scenes of digits: what they show, what is said of them, the whole road."""

import hashlib
import re

import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines.errors import PrepareError
from data_pipelines.scenes import captions, picture
from itemclip_jax.data import image, record
from tests.data_pipelines import picture_files as files

SIZES = {"num_train": 6, "num_valid": 2, "num_test": 3}


def _scenes(count, split="train", seed=0):
  for n in range(count):
    rng = np.random.default_rng([seed, n])
    yield rng, picture.draw_scene(rng, split)


@pytest.fixture(name="built", scope="module")
def _built(tmp_path_factory):
  return files.build(tmp_path_factory.mktemp("digits"), "digit_scenes", **SIZES)


def test_the_built_set_is_read_as_batches(built):
  assert {s: len(record.open_split(built, s).source)
          for s in ("train", "valid", "test")} == {
              "train": 6, "valid": 2, "test": 3}
  assert not files.rejected(built)
  x = files.batch_for_training(built, max_items=7)
  assert x["volume"].shape == (2, 1, 3, files.SIDE, files.SIDE)
  assert x["item_mask"].any(1).all()


def _digest(folder):
  return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest()
          for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_bytes_whatever_the_workers_and_another_set_by_seed(
    built, tmp_path):
  from data_pipelines import prepare  # pylint: disable=g-import-not-at-top
  prepare.build(datasets.make("digit_scenes", **SIZES), tmp_path / "two",
                num_workers=2)
  for part in ("raw", "pictures"):
    assert _digest(built / part) == _digest(tmp_path / "two" / part)
  files.build(tmp_path / "other", "digit_scenes", seed=1, **SIZES)
  first, other = (_digest(f / "raw/train") for f in (built, tmp_path / "other"))
  assert first.keys() == other.keys()
  assert not set(first.values()) & set(other.values())


def test_masks_lie_on_the_digits_that_their_items_speak_of(built):
  findings = list(record.read_findings(built))
  x = files.batch_for_evaluation(built, "test", 3, max_items=7)
  split = record.open_split(built, "test")
  seen = 0
  for i in range(3):
    study = split.study(i)
    mask = image.decode_mask(study["lesion_mask"].tobytes())
    pixels = np.asarray(image.decode(study["image"].tobytes())).astype(int)
    assert pixels.shape == (picture.SIDE, picture.SIDE, 3)
    for k, (item, finding) in enumerate(
        zip(study["items"], study["item_finding"])):
      assert (mask == k + 1).any() == (finding >= 0)
      if finding < 0:
        continue
      seen += 1
      name, place = findings[finding].split(", ")
      number = picture.NAMES.index(name)
      assert re.search(rf"\b({name}|{number})\b", item.lower())
      row, column = divmod(picture.PLACES.index(place), picture.GRID)
      centre = np.argwhere(mask == k + 1).mean(0) * picture.GRID / picture.SIDE
      assert np.floor(centre).tolist() == [row, column]
      # Ink is brighter in some channel than all of the ground.
      assert pixels[mask == k + 1].max(1).mean() > 130
      assert study["labels"][finding] == 1
    assert pixels[mask == 0].max(1).mean() < 110
    np.testing.assert_array_equal(x["item_finding"][i, :len(study["items"])],
                                  study["item_finding"])
  assert seen >= 3


def test_digits_of_a_scene_are_in_different_places_and_do_not_overlap():
  for rng, scene in _scenes(60):
    places = [d.place for d in scene.digits]
    assert len(set(places)) == len(places)
    _, owner = picture.paint(rng, scene)
    for k in range(len(scene.digits)):
      alone = picture.Scene(scene.ground, (scene.digits[k],))
      area = (picture.paint(rng, alone)[1] > 0).sum()
      assert (owner == k + 1).sum() >= 0.97 * area > 8


def test_splits_show_digits_of_different_people():
  used = {split: {d.glyph for _, scene in _scenes(400, split)
                  for d in scene.digits} for split in picture.SPLITS}
  spans = {split: (min(u), max(u)) for split, u in used.items()}
  assert spans["train"][1] < spans["valid"][0]
  assert spans["valid"][1] < spans["test"][0]
  values = picture.glyphs()[1]
  for _, scene in _scenes(20):
    assert all(values[d.glyph] == d.value for d in scene.digits)


def test_what_is_said_is_true():
  rows = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}
  for rng, scene in _scenes(300):
    for item in captions.write(rng, scene):
      text = item.text.lower()
      if item.digit is None:
        continue
      digit = scene.digits[item.digit]
      assert re.search(rf"\b({digit.name}|{digit.value})\b", text)
      for words, have in ((captions._COLOURS, digit.colour),
                          (captions._SIZES, digit.size)):
        for name, synonyms in words.items():
          said = any(re.search(rf"\b{s}\b", text) for s in synonyms)
          assert not said or name == have
      for word, row in rows.items():
        assert word not in text or digit.row == row
      assert "left" not in text or digit.column == 0
      assert "right" not in text or digit.column == 2


def test_relations_hold():
  checked = 0
  for rng, scene in _scenes(400):
    by_name = {d.name: d for d in scene.digits}
    for item in captions.write(rng, scene):
      names = [w for w in re.findall(r"[a-z]+", item.text.lower())
               if w in by_name]
      if item.digit is not None or len(names) != 2:
        continue
      checked += 1
      first, second = (by_name[n] for n in names)
      text = item.text
      assert "left of" not in text or first.column < second.column
      assert "right of" not in text or first.column > second.column
      assert not re.search("above|higher", text) or first.row < second.row
      assert not re.search("below|lower", text) or first.row > second.row
  assert checked > 50


def test_findings_are_what_the_scene_shows():
  columns = captions.findings()
  assert len(columns) == 10 + 90 + 60 + 4
  count = dict.fromkeys(columns, 0)
  for _, scene in _scenes(1000, "test"):
    for name in captions.present(scene):
      count[name] += 1
    for digit in scene.digits:
      assert captions.place_finding(digit) in captions.present(scene)
  assert min(count.values()) > 5


def test_prompts_are_no_captions_but_use_their_words():
  said = {item.text.lower().rstrip(".") for rng, scene in _scenes(3000)
          for item in captions.write(rng, scene)}
  words = {word for text in said for word in re.findall(r"\w+", text)}
  everything = "\n".join(said)
  prompts = [p for f in captions.findings().values() for p in f["prompts"]]
  assert len(prompts) == len(set(prompts))
  for prompt in prompts:
    assert prompt not in everything
    assert set(re.findall(r"\w+", prompt)) <= words, prompt


def test_articles():
  texts = [item.text for rng, scene in _scenes(500)
           for item in captions.write(rng, scene)]
  assert not [t for t in texts if re.search(
      r"\b[Aa]n (?!eight|8|emerald|azure)|\b[Aa] (eight|8|emerald|azure)", t)]


@pytest.mark.parametrize("sizes", [{"num_test": -1},
                                   {"num_train": 0, "num_valid": 0,
                                    "num_test": 0}])
def test_useless_sizes_are_told(sizes):
  with pytest.raises(PrepareError, match="none may be negative"):
    datasets.make("digit_scenes", **sizes)

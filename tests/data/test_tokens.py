"""Character codes of series names, and the word-piece vocabulary."""

import json

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from itemclip_jax.data import series_name, tokens

TEXTS = ["A cyst in the left frontal lobe.", "Study is unremarkable.",
         "Microhaemorrhage in the pons.", "A mass in the left temporal lobe."]


@pytest.mark.parametrize("name, codes", [
    ("", [46]),
    ("a", [1, 46]),
    ("Z", [26, 46]),
    ("AX_T2", [1, 24, 27, 20, 32, 46]),
    ("t1+c-3", [20, 31, 28, 3, 29, 33, 46]),
    ("0123456789", [*range(30, 40), 46]),
    ("(a.b*c,d)", [42, 1, 40, 2, 41, 3, 44, 4, 43, 46]),
    ("AX FLAIR", [1, 24, 45, 6, 12, 1, 9, 18, 46]),  # a space is "other"
    ("T2/\té", [20, 32, 45, 45, 45, 46]),
])
def test_codes_of_series_names(name, codes):
  found = series_name.codes(name)
  assert found.shape == (110,) and found.dtype == np.int32
  np.testing.assert_array_equal(found, codes + [0] * (110 - len(codes)))


@pytest.mark.parametrize("length", [108, 109, 110, 200])
def test_long_names_are_cut_and_still_end(length):
  found = series_name.codes("x" * length)
  kept = min(length, 109)
  np.testing.assert_array_equal(found[:kept], 24)
  assert found[kept] == 46 and not found[kept + 1:].any()


@pytest.fixture(name="vocabulary", scope="module")
def _vocabulary(tmp_path_factory):
  path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
  tokens.train_vocabulary(TEXTS, path, 200)
  return path


def test_a_vocabulary_does_not_depend_on_the_order_of_texts(
    vocabulary, tmp_path):
  for i, texts in enumerate((TEXTS[::-1], TEXTS)):
    tokens.train_vocabulary(iter(texts), tmp_path / f"{i}.json", 200)
    assert (tmp_path / f"{i}.json").read_bytes() == vocabulary.read_bytes()
  assert not list(tmp_path.glob("*.partial"))


def test_rows_start_with_cls_end_with_sep_and_are_padded(vocabulary):
  tokenize = tokens.Tokenizer(vocabulary, max_tokens=16, vocab_size=200)
  ids = tokenize(TEXTS)
  assert ids.shape == (4, 16) and ids.dtype == np.int32
  for row in ids:
    real = row[row != 0]
    assert real[0] == 2 and real[-1] == 3
    assert not row[len(real):].any()
  assert tokenize.unknown_rate(ids) == 0.0
  np.testing.assert_array_equal(tokenize([TEXTS[0].upper()])[0], ids[0])


def test_long_texts_are_cut_to_the_width_and_still_end(vocabulary):
  tokenize = tokens.Tokenizer(vocabulary, max_tokens=5, vocab_size=200)
  ids = tokenize([TEXTS[0]])
  assert ids.shape == (1, 5) and ids[0, 0] == 2 and ids[0, -1] == 3


def test_unknown_characters_are_counted(vocabulary):
  tokenize = tokens.Tokenizer(vocabulary, max_tokens=8, vocab_size=200)
  ids = tokenize(["愛"])  # [CLS] [UNK] [SEP]
  assert tokenize.unknown_rate(ids) == pytest.approx(1 / 3)


def test_a_missing_vocabulary_is_told(tmp_path):
  with pytest.raises(ValueError, match="no vocabulary at .*; train first"):
    tokens.Tokenizer(tmp_path / "none.json", max_tokens=4, vocab_size=9)


def test_a_vocabulary_larger_than_the_table_is_told(vocabulary):
  with pytest.raises(ValueError, match="word pieces, but text.vocab_size is 9"):
    tokens.Tokenizer(vocabulary, max_tokens=4, vocab_size=9)


def test_a_vocabulary_whose_padding_is_not_zero_is_told(vocabulary, tmp_path):
  raw = json.loads(vocabulary.read_text())
  vocab = raw["model"]["vocab"]
  vocab["[PAD]"], vocab["[UNK]"] = 1, 0
  for special in raw["added_tokens"][:2]:
    special["id"] = 1 - special["id"]
  (tmp_path / "other.json").write_text(json.dumps(raw))
  with pytest.raises(ValueError, match=r"id of \[PAD\] must be 0"):
    tokens.Tokenizer(tmp_path / "other.json", max_tokens=4, vocab_size=200)


def _byte_pairs(path, *, enclosed=True):
  """A file of the form of CLIP's: "!" has id 0, the end token the largest."""
  letters = sorted(pre_tokenizers.ByteLevel.alphabet())
  pieces = [*letters, *(x + "</w>" for x in letters), "ma", "mas", "mass</w>",
            "<|startoftext|>", "<|endoftext|>"]
  tokenizer = tokenizers.Tokenizer(models.BPE(
      {piece: i for i, piece in enumerate(pieces)},
      [("m", "a"), ("ma", "s"), ("mas", "s</w>")],
      unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
  tokenizer.normalizer = normalizers.Lowercase()
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
      pre_tokenizers.Split(tokenizers.Regex(r"\s+"), "removed"),
      pre_tokenizers.ByteLevel(add_prefix_space=False)])
  begin, end = len(pieces) - 2, len(pieces) - 1
  tokenizer.add_special_tokens(list(pieces[-2:]))
  if enclosed:
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", end), ("<|startoftext|>", begin))
  tokenizer.save(str(path))
  return pieces


def test_a_vocabulary_of_byte_pairs_is_read_like_one_of_word_pieces(tmp_path):
  pieces = _byte_pairs(tmp_path / "clip.json")
  size = len(pieces)
  tokenize = tokens.Tokenizer(tmp_path / "clip.json", max_tokens=6,
                              vocab_size=size)
  ids = tokenize(["A MASS !", "mass " * 9, "\u611b"])
  begin, end = size - 2, size - 1
  number = pieces.index
  assert pieces[0] == "!"
  np.testing.assert_array_equal(ids[0], [
      begin, number("a</w>"), number("mass</w>"), number("!</w>"), end, 0])
  np.testing.assert_array_equal(  # cut, and still ended
      ids[1], [begin, *[number("mass</w>")] * 4, end])
  np.testing.assert_array_equal(ids.argmax(1), [4, 5, 4])
  assert tokenize.unknown_id == -1 and tokenize.unknown_rate(ids) == 0.0


def test_a_vocabulary_that_does_not_mark_begin_and_end_is_told(tmp_path):
  pieces = _byte_pairs(tmp_path / "clip.json", enclosed=False)
  with pytest.raises(ValueError, match="does not put a begin and an end token"):
    tokens.Tokenizer(tmp_path / "clip.json", max_tokens=6,
                     vocab_size=len(pieces))

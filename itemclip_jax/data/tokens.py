"""Items -> int32 ids of word pieces; learning a vocabulary of them.

A vocabulary is a tokenizer.json: BERT's word pieces, CLIP's byte pairs, or one
learnt here from the reports. Any of them encloses a text in a begin and an end
token and is padded with id 0. In BERT's that is [PAD]; CLIP's (49 408 pieces,
begin 49 406, end 49 407) has no padding token, and its id 0 is "!", which does
no harm behind the end token of a causal tower.
"""

from collections.abc import Iterable
import hashlib
import pathlib

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from itemclip_jax.errors import UserError

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 .. 4


def train_vocabulary(
    texts: Iterable[str], path: pathlib.Path, vocab_size: int):
  """Learns a lower-case word-piece vocabulary and writes tokenizer.json.

  The result depends on the texts alone, not on their order.
  """
  texts = list(texts)
  learner = _word_pieces({})
  normalise = learner.normalizer.normalize_str
  split = learner.pre_tokenizer.pre_tokenize_str
  # The trainer numbers inner letters as a hash table yields them, and its ties
  # fall by number: every run would learn other pieces. So they are given first.
  inner = sorted({"##" + letter for text in texts
                  for word, _ in split(normalise(text)) for letter in word[1:]})
  learner.train_from_iterator(texts, trainers.WordPieceTrainer(
      vocab_size=vocab_size, special_tokens=[*_SPECIAL, *inner],
      show_progress=False))
  tokenizer = _word_pieces(learner.get_vocab())
  tokenizer.add_special_tokens(list(_SPECIAL))
  tokenizer.post_processor = processors.TemplateProcessing(
      single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
  partial = path.with_suffix(".partial")
  tokenizer.save(str(partial))
  partial.replace(path)


def _word_pieces(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
  tokenizer = tokenizers.Tokenizer(
      models.WordPiece(vocabulary, unk_token="[UNK]"))
  tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
  tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  return tokenizer


class Tokenizer:
  """Texts -> [n, max_tokens] int32 ids, 0 = padding.

  Attributes:
    unknown_id: of [UNK], what the vocabulary does not know; -1 where it knows
      every byte.
    sha256: of the vocabulary's file.

  Raises:
    UserError: the file is missing, its ids exceed the embedding table, its
      padding is not 0, or it does not mark where a text begins and ends.
  """

  def __init__(self, path: pathlib.Path, *, max_tokens: int, vocab_size: int,
               lower_case: bool = False):
    if not path.is_file():
      raise UserError(f"There is no vocabulary at {path}; train first, or set "
                      "text.vocabulary to a tokenizer.json.")
    try:
      self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
      raise UserError(f"{path} is no tokenizer.json ({error}); give another, "
                      "or delete it to learn one by training again."
                      ) from error
    size = self._tokenizer.get_vocab_size()
    if size > vocab_size:
      raise UserError(f"{path} has {size} word pieces, but text.vocab_size is "
                      f"{vocab_size}; set it to {size} or more.")
    if self._tokenizer.token_to_id("[PAD]") not in (0, None):
      raise UserError(f"In {path} the id of [PAD] must be 0.")
    if self._tokenizer.num_special_tokens_to_add(is_pair=False) != 2:
      raise UserError(f"{path} does not put a begin and an end token around a "
                      "text; give a tokenizer.json whose post_processor does.")
    self._lower_case = lower_case
    unknown = self._tokenizer.token_to_id("[UNK]")
    self.unknown_id = -1 if unknown is None else unknown
    self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    self._tokenizer.enable_truncation(max_tokens)
    self._tokenizer.enable_padding(length=max_tokens, pad_id=0)

  def __call__(self, texts: list[str]) -> np.ndarray:
    if self._lower_case:
      texts = [t.lower() for t in texts]
    encoded = self._tokenizer.encode_batch(texts)
    return np.array([e.ids for e in encoded], np.int32)

  def unknown_rate(self, ids: np.ndarray) -> float:
    """Share of [UNK] among the ids that are not padding."""
    return float(np.mean(ids[ids != 0] == self.unknown_id))

"""What a run's texts need: their vocabulary, and the vectors of labels."""

import pathlib

from itemclip_jax.config import schema
from itemclip_jax.data import record, tokens, triplets
from itemclip_jax.errors import UserError
from itemclip_jax.interop import hf_text, sentence_encoder
from itemclip_jax.parallel import multihost

# The guard against vocabularies of another language or case.
_READ_STUDIES, _MAX_UNKNOWN = 32, 0.05


def tokenizer(config: schema.Config, workdir: pathlib.Path, training: bool,
              origin) -> tokens.Tokenizer:
  """The vocabulary given, the origin's, the pretrained, or one learnt.

  Args:
    config: the settings.
    workdir: of the run; holds its tokenizer.json.
    training: may write that file.
    origin: the `trained.Trained` that it starts from, or None.

  Raises:
    UserError: the origin's vocabulary is another one.
  """
  given = config.text.vocabulary
  path = pathlib.Path(given) if given else workdir / "tokenizer.json"
  if training and not given and not path.exists() and multihost.is_main():
    path.parent.mkdir(parents=True, exist_ok=True)
    if origin:
      _write_whole(path, origin.vocabulary.read_bytes())
    elif folder := config.text.pretrained:
      _write_whole(path, hf_text.tokenizer_json(folder).encode())
    else:
      tokens.train_vocabulary(_texts(config), path, config.text.vocab_size)
  multihost.sync("vocabulary")
  made = tokens.Tokenizer(path, max_tokens=config.text.max_tokens,
                          vocab_size=config.text.vocab_size,
                          lower_case=config.text.lower_case)
  if origin and made.sha256 != origin.tokenizer.sha256:
    raise UserError(
        f"{path} is another vocabulary than {origin.vocabulary}, that of "
        f"train.start_from={config.train.start_from}; "
        + ("leave text.vocabulary empty." if given else "delete the former."))
  return made


def _texts(config: schema.Config) -> list[str]:
  """What a vocabulary is learnt from: items, and the texts made otherwise."""
  root, split = config.data.root, config.data.train_split
  texts = record.read_items(root, split)
  if config.text.form == "organs":
    texts += record.read_items(root, split, "organ_texts")
  elif config.text.form == "triplets":
    texts += triplets.read_texts(root, (split,), config.medfilip)
    texts.append(triplets.MASK)
  return texts


def vectors(config: schema.Config, workdir: pathlib.Path
            ) -> sentence_encoder.Vectors | None:
  """Label texts as a similarity encoder sees them; None where none is asked."""
  if config.text.form != "triplets" or config.medfilip.targets == "hard":
    return None
  data = config.data
  splits = tuple(filter(None, (data.train_split, data.valid_split)))
  return sentence_encoder.Vectors.build(
      triplets.read_texts(data.root, splits, config.medfilip),
      config.medfilip.similarity_encoder, workdir / "similarity")


def _write_whole(path: pathlib.Path, content: bytes):
  partial = path.with_suffix(".partial")
  partial.write_bytes(content)
  partial.replace(path)


def require_known(tokenizer: tokens.Tokenizer, split: record.Split):
  """Raises where a vocabulary does not fit the first training reports."""
  first = range(min(_READ_STUDIES, len(split.source)))
  texts = [item for i in first for item in split.source[i]["items"]]
  rate = tokenizer.unknown_rate(tokenizer(texts)) if texts else 0.0
  if rate > _MAX_UNKNOWN:
    raise UserError(
        f"The vocabulary does not know {rate:.0%} of the word pieces of the "
        f"first {len(texts)} training items; choose another text.vocabulary or "
        "text.pretrained, or check text.lower_case.")

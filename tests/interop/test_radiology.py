"""Published radiology checkpoints: in, out, and what they then compute."""

import pathlib

import jax
import numpy as np
import pytest

from itemclip_jax.config import schema
from itemclip_jax.interop import mapping, model_shapes
from itemclip_jax.interop.rules import hlip, itemized_radiology
from itemclip_jax.models import layers
from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.models.item_attention import ItemAttention
from tests.parity import torch_names

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
WIDTH = 32  # of the joint space, that of the golden item attention

CONFIG = schema.Config(
    vision=schema.Vision(
        volume_shape=(8, 18, 12), patch=(4, 6, 6), width=48, depth=6,
        num_heads=4, study_blocks=(2, 5), name_encoder=(32, 3, 4, 40)),
    text=schema.Text(vocab_size=99, width=32, depth=3, num_heads=4,
                     mlp_width=64, max_tokens=11),
    joint=schema.Joint(width=WIDTH, num_heads=8))


def load(name: str) -> dict[str, np.ndarray]:
  with np.load(GOLDEN / f"{name}.npz") as file:
    return dict(file)


@pytest.fixture(name="state", scope="module")
def _state():
  """A whole checkpoint, its parts those of three golden files."""
  rng = np.random.default_rng(0)
  random = lambda *shape: rng.normal(size=shape).astype(np.float32)
  trunk = torch_names.under(load("hlip_d_sn_seriesname_h2"), "param")
  text = torch_names.under(load("text_hf_bert"), "param")
  attention = torch_names.under(load("crossattn_f32"), "param")
  positions = "transformer.embeddings.position_embeddings.weight"
  text[positions] = np.pad(text[positions], ((0, 512 - 32), (0, 0)))
  text["proj.weight"] = random(WIDTH, 32)
  del trunk["__head.proj.weight"]
  return {
      **{f"visual.trunk.{k}": v for k, v in trunk.items()},
      "visual.head.proj.weight": random(WIDTH, 48),
      **{f"text.{k}": v for k, v in text.items()},
      **{f"visual_proj.{k}": v for k, v in attention.items()},
      "logit_scale": np.float32(2.5), "logit_bias": np.float32(-9)}


@pytest.fixture(name="params", scope="module")
def _params(state):
  return itemized_radiology.to_params(state, CONFIG)


def apply(params, *args, method):
  return DualEncoder(CONFIG).apply({"params": params}, *args, method=method)


def test_converted_towers_reproduce_the_golden_activations(state, params):
  trunk, text = load("hlip_d_sn_seriesname_h2"), load("text_hf_bert")
  volume = trunk["in.image"][:, :, 0]
  image, tokens, _ = apply(
      params, volume, np.ones(volume.shape[:2], bool), trunk["in.serienames"],
      method="image")
  close = lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-4 * abs(b).max())  # float32, six blocks
  head = state["visual.head.proj.weight"].T
  close(image, trunk["out.cls"] @ head)
  close(tokens, trunk["out.tokens"] @ head)
  items = apply(params, text["in.input_ids"], method="text")
  close(items, text["out.cls_hidden"] @ state["text.proj.weight"].T)
  data = load("crossattn_f32")
  pooled = ItemAttention(WIDTH, 8).apply(
      {"params": params["item_attention"]}, data["in.q"], data["in.kv"],
      np.ones(data["in.kv"].shape[:2], bool))
  close(pooled, data["out.nomask.output"])
  assert (params["logit_scale"], params["logit_bias"]) == (2.5, -9)


def test_the_tree_is_the_one_that_the_model_makes(params):
  kinds = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
  assert kinds(params) == kinds(model_shapes.abstract_params(CONFIG))


def test_there_and_back_is_exact(state, params):
  back = itemized_radiology.from_params(params, CONFIG)
  back |= itemized_radiology.unused(state)
  # The code of the names is fixed and was no entry of a real state.
  code = "visual.trunk.serienameencoder.p_enc_table"
  assert back.keys() == state.keys() - {code}
  for name, value in back.items():
    np.testing.assert_array_equal(value, state[name], err_msg=name)
    assert value.shape == state[name].shape, name
  jax.tree.map(np.testing.assert_array_equal, params,
               itemized_radiology.to_params(back, CONFIG))


@pytest.mark.parametrize("name", sorted(
    p.stem for p in GOLDEN.glob("hlip_[abcd]*.npz")))
def test_rules_and_the_parity_tests_read_the_same_trunk(name):
  data = load(name)
  heads = int(data["cfg.heads"])
  state = torch_names.under(data, "param")
  theirs = torch_names.hlip(state, num_heads=heads,
                            name_heads=int(data.get("cfg.sne_heads", 1)))
  shapes = mapping.shapes(theirs)
  patch = tuple(map(int, data["cfg.patch_size"]))
  state = mapping.drop(state, [r"__head.*", ".*p_enc_table",
                               "sequential_posemb"])
  ours = mapping.to_params(
      state, mapping.expand(hlip.rules(patch), shapes, name), name)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_an_hlip_checkpoint_leaves_the_item_attention_fresh(state):
  plain = {k: v for k, v in state.items() if not k.startswith("visual_proj.")}
  params = itemized_radiology.to_params(plain, CONFIG)
  assert "item_attention" not in params and "logit_bias" in params
  del plain["logit_bias"]
  params = itemized_radiology.to_params(plain, CONFIG)
  assert params.keys() == {"vision", "vision_proj", "text_tower", "text_proj",
                           "logit_scale"}
  assert "visual_proj.ln_q.weight" not in itemized_radiology.from_params(
      params, CONFIG)


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("visual_proj.ln_k.bias"), "lacks visual_proj.ln_k.bias;"),
    (lambda s: s.update({"text.proj.bias": 0}), "unexpected text.proj.bias;"),
    (lambda s: s.update({"visual.trunk.blocks.6.norm1.bias": 0}),
     "unexpected visual.trunk.blocks.6.norm1.bias;.* deeper"),
    (lambda s: s.update({"text.proj.weight": np.zeros((32, 31))}),
     r"text.proj.weight has shape \(32, 31\), wanted \(32, 32\);"),
    (lambda s: s.update({
        "visual.trunk.patch_embed.proj.weight": np.zeros((48, 1, 6, 4, 6))}),
     r"shape \(48, 1, 6, 4, 6\), wanted \(48, 1, 4, 6, 6\);"),
    (lambda s: s.update({
        "visual.trunk.serienameencoder.p_enc_table": np.zeros((200, 10))}),
     "has another serienameencoder.p_enc_table than")])
def test_what_does_not_fit_is_one_sentence(state, change, message):
  state = dict(state)
  change(state)
  with pytest.raises(ValueError, match=message):
    itemized_radiology.to_params(state, CONFIG)


@pytest.mark.parametrize("name", ["sequential_posemb", "series_posemb"])
def test_the_code_of_the_order_is_compared_and_written(state, name):
  config = schema.Config(**vars(CONFIG) | {"vision": schema.Vision(
      **vars(CONFIG.vision) | {"series_embedding": "order"})})
  state = {k: v for k, v in state.items() if ".sne_proj." not in k
           and ".serienameencoder." not in k}
  code = layers.sincos_1d(range(40), 48)[None].astype(np.float32)
  state[f"visual.trunk.{name}"] = code
  params = itemized_radiology.to_params(state, config)
  back = itemized_radiology.from_params(params, config)
  np.testing.assert_array_equal(back["visual.trunk.sequential_posemb"], code)
  state[f"visual.trunk.{name}"] = code[:, ::-1]
  with pytest.raises(ValueError, match="another sequential_posemb"):
    itemized_radiology.to_params(state, config)


def test_both_names_of_the_lists_are_one_tower():
  slices, rest = [0, 1, 3, 4], [5, 2]
  for name in ("scan", "study", "scan_attn_indexes", "sequence_attn_indexes"):
    assert hlip.attention_levels(
        {"slice": slices, name: rest}, depth=6, single_series=True) == {
            "slice_blocks": (0, 1, 3, 4), "study_blocks": ()}
  assert hlip.attention_levels(
      {"scan": slices, "study": rest}, depth=6, single_series=False) == {
          "slice_blocks": (), "study_blocks": (2, 5)}


@pytest.mark.parametrize("lists, message", [
    ({"slice": [0], "study": [0]}, "Block 0 of study stands in another"),
    ({"study": [6]}, "beyond the 6 blocks"),
    ({"window": [1]}, "'window' is no list of attention blocks")])
def test_lists_that_are_no_tower_are_refused(lists, message):
  with pytest.raises(ValueError, match=message):
    hlip.attention_levels(lists, depth=6, single_series=False)


def test_a_parameter_without_a_rule_is_refused():
  with pytest.raises(ValueError, match="has no place for vision/extra;"):
    mapping.expand(itemized_radiology.rules(CONFIG),
                   {"vision/extra": (1,)}, "The checkpoint")

"""Public weights of the towers for pictures, from files as they are shared."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from itemclip_jax.config import schema
from itemclip_jax.interop import mapping, picture_towers, pretrained
from itemclip_jax.interop.rules import itemized_2d, resnet, swin, timm_vit
from itemclip_jax.models.dual_encoder import make_text, make_vision
from itemclip_jax.models.resnet import Resnet
from itemclip_jax.models.swin import Swin
from itemclip_jax.models.vit import Vit
from tests.models import plain_towers
from tests.parity.compile import jit

COMMON = {"series_embedding": "none", "study_blocks": (), "num_heads": 2,
          "drop_path": 0.0, "volume_shape": (3, 32, 32)}
RESNET = schema.Vision(tower="resnet", patch=(3, 8, 8), stages=(2, 1), width=8,
                       norm="frozen_batch", pretrained="resnet.pth",
                       **COMMON)
SWIN = schema.Vision(tower="swin", patch=(3, 8, 8), stages=(2, 2), width=8,
                     window=3, **COMMON)
VIT = schema.Vision(tower="vit", family="imagenet", patch=(3, 8, 8), width=8,
                    depth=2, **COMMON)
CLIP = schema.Vision(tower="vit", patch=(3, 8, 8), width=8, depth=2, **COMMON)
TEXT = schema.Text(tower="clip", vocab_size=50, width=8, depth=2, num_heads=2,
                   mlp_width=16, max_tokens=6, dropout=0.0)
TABLES = {  # that files carry besides the weights
    "layers.0.blocks.1.attn_mask": np.zeros((4, 9, 9)),
    "layers.0.blocks.0.attn.relative_position_index": np.zeros((9, 9), int)}
SHAPES = {
    "resnet": plain_towers.resnet_shapes((2, 1), 8),
    "swin": plain_towers.swin_shapes((2, 2), 8, 2, 4, 3),
    "vit": plain_towers.vit_shapes(8, 2, 8, 32)}
SETTINGS = {"resnet": RESNET, "swin": SWIN, "vit": VIT}

PLAIN = {  # state, picture -> normalised tokens [N, C]
    "resnet": lambda s, x: plain_towers.resnet(s, x, (2, 1)).reshape(64, -1).T,
    "swin": lambda s, x: plain_towers.swin(s, x, stages=(2, 2), num_heads=2,
                                           window=3),
    "vit": lambda s, x: plain_towers.vit(s, x, depth=2, num_heads=2)[1:]}


def write(path, state):
  safetensors.numpy.save_file(
      {k: np.ascontiguousarray(v) for k, v in state.items()}, path)
  return path


def clip_state(prefix: str) -> dict:
  """Both towers of an open_clip model, its texts' under a prefix."""
  vision = mapping.expand(
      itemized_2d.vision(CLIP.patch), mapping.init_shapes(
          make_vision(CLIP, None), np.zeros((1, 1, 3, 32, 32), np.float32),
          np.ones((1, 1), bool)), "image")
  text = mapping.expand(itemized_2d.TEXT, mapping.init_shapes(
      make_text(TEXT, None), np.zeros((1, 6), np.int32)), "text")
  shapes = {f"visual.{e.torch}": e.torch_shape for e in vision} | {
      f"{prefix}{e.torch}": e.torch_shape for e in text} | {
          "visual.proj": (8, 4), f"{prefix}text_projection": (8, 4),
          f"{prefix}positional_embedding": (9, 8),
          f"{prefix}attn_mask": (9, 9), "logit_scale": ()}
  return plain_towers.random_state(shapes)


@pytest.mark.parametrize("tower", SETTINGS)
def test_a_file_gives_the_tower_that_it_was_of(tower, tmp_path):
  state = plain_towers.random_state(SHAPES[tower])
  more = TABLES if tower == "swin" else {}
  path = write(tmp_path / "weights.safetensors", state | more)
  settings = SETTINGS[tower]
  params = picture_towers.vision(path, settings)
  picture = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
  out = jit(make_vision(settings, None).apply)(
      {"params": params}, picture[None, None], np.ones((1, 1), bool))
  plain = PLAIN[tower](state, picture)
  np.testing.assert_allclose(out.tokens[0], plain, rtol=1e-4,
                             atol=1e-5 * np.abs(plain).max())  # float32


# The sizes of the files that are shared, by the published counts.
@pytest.mark.parametrize("model, rules, unused, shapes, count", [
    (Resnet(norm="frozen_batch"), resnet.rules(4), resnet.UNUSED,
     plain_towers.resnet_shapes((3, 4, 6, 3), 64, 1000), 25_557_032),
    (Swin(), swin.rules(4, 4), swin.UNUSED,
     plain_towers.swin_shapes((2, 2, 6, 2), 96, 3, 4, 7, 1000), 28_288_354),
    (Vit(family="imagenet", width=384, num_heads=6),
     timm_vit.rules((3, 16, 16)), timm_vit.UNUSED,
     plain_towers.vit_shapes(384, 12, 16, 224, 1000), 22_050_664),
    (Vit(family="imagenet"), timm_vit.rules((3, 16, 16)), timm_vit.UNUSED,
     plain_towers.vit_shapes(768, 12, 16, 224, 1000), 86_567_656)])
def test_published_states_are_consumed_whole(
    model, rules, unused, shapes, count):
  assert plain_towers.parameters(shapes) == count
  ours = mapping.init_shapes(
      model, np.zeros((1, 1, 3, 224, 224), np.float32), np.ones((1, 1), bool))
  entries = mapping.expand(rules, ours, "The model")
  assert {e.torch: e.torch_shape for e in entries} == (
      mapping.drop(shapes, unused))
  head = 1000 * (1 + ours.get("norm/scale", (2048,))[0])
  trained = {k: v for k, v in ours.items() if not k.endswith(("mean", "var"))}
  assert sum(map(np.prod, trained.values())) == count - head


@pytest.mark.parametrize("tower, rules", [
    ("resnet", resnet.rules(2)), ("swin", swin.rules(4, 2)),
    ("vit", timm_vit.rules((3, 8, 8)))])
def test_there_and_back_is_exact(tower, rules, tmp_path):
  state = plain_towers.random_state(SHAPES[tower])
  params = picture_towers.vision(write(tmp_path / "x.safetensors", state),
                                 SETTINGS[tower])
  back = mapping.to_state(params, mapping.expand(
      rules, mapping.shapes(params), tower))
  assert back.keys() == {k for k in state if not k.startswith(("head", "fc."))
                         and not k.endswith("tracked")}
  for name, value in back.items():
    np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_both_namings_of_swin_are_read(tmp_path):
  state = plain_towers.random_state(SHAPES["swin"])
  moved = {k.replace("layers.0.downsample", "layers.1.downsample").replace(
      "head.", "head.fc."): v for k, v in state.items()}
  assert moved.keys() != state.keys()
  ours = [picture_towers.vision(write(tmp_path / f"{i}.safetensors", s), SWIN)
          for i, s in enumerate((state, moved))]
  jax.tree.map(np.testing.assert_array_equal, *ours)


@pytest.mark.parametrize("prefix", ["", "text."])
def test_an_open_clip_folder_fills_both_towers(prefix, tmp_path):
  state = clip_state(prefix)
  write(tmp_path / "open_clip_model.safetensors", state)
  config = schema.Config(
      data=schema.Data(max_series=1),
      vision=schema.Vision(**vars(CLIP) | {"pretrained": str(tmp_path)}),
      text=schema.Text(**vars(TEXT) | {"pretrained": str(tmp_path),
                                       "vocabulary": "tokenizer.json"}))
  found = pretrained.read(config)
  np.testing.assert_array_equal(
      found["text_tower"]["position"]["embedding"],
      state[f"{prefix}positional_embedding"][:6])
  np.testing.assert_array_equal(
      found["text_tower"]["block1"]["mlp"]["fc1"]["kernel"],
      state[f"{prefix}transformer.resblocks.1.mlp.c_fc.weight"].T)
  np.testing.assert_array_equal(found["vision"]["norm_pre"]["scale"],
                                state["visual.ln_pre.weight"])
  kernel = found["vision"]["patch"]["kernel"]
  np.testing.assert_array_equal(
      kernel.reshape(3, 8, 8, 8).transpose(3, 0, 1, 2),
      state["visual.conv1.weight"])


def test_a_resnet_with_group_norm_is_read_into_one(tmp_path):
  state = plain_towers.random_state(SHAPES["resnet"])
  grouped = mapping.drop(state, (r".*\.running_.*", r".*_tracked"))
  with_groups = schema.Vision(**vars(RESNET) | {"norm": "group"})
  params = picture_towers.vision(
      write(tmp_path / "gn.safetensors", grouped), with_groups)
  np.testing.assert_array_equal(params["norm1"]["bias"], state["bn1.bias"])
  with pytest.raises(ValueError, match="without the statistics of batch "
                                       "normalisation; set vision.norm='group"):
    picture_towers.vision(tmp_path / "gn.safetensors", RESNET)
  write(tmp_path / "bn.safetensors", state)
  with pytest.raises(ValueError, match="with the statistics of .*; set "
                                       "vision.norm='frozen_batch'"):
    picture_towers.vision(tmp_path / "bn.safetensors", with_groups)


@pytest.mark.parametrize("settings, wanted", [
    (RESNET, "torchvision's resnet50, or of timm's resnet50_gn"),
    (SWIN, "timm's swin_tiny_patch4_window7_224"),
    (VIT, "timm's vit_small_patch16_224 or vit_base_patch16_224"),
    (CLIP, "an open_clip model")])
def test_a_missing_file_is_named_with_what_is_wanted(
    settings, wanted, tmp_path):
  with pytest.raises(ValueError, match=(
      rf"no weights at .*none.pth; give the weights of {wanted}")):
    picture_towers.vision(tmp_path / "none.pth", settings)
  with pytest.raises(ValueError, match="a folder holds one of model.safeten"):
    picture_towers.vision(tmp_path, settings)


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("layer1.1.bn2.running_var"),
     "lacks layer1.1.bn2.running_var;"),
    (lambda s: s.update({"layer1.2.conv1.weight": np.zeros((8, 32, 1, 1))}),
     "unexpected layer1.2.conv1.weight;"),
    (lambda s: s.update({"conv1.weight": np.zeros((8, 1, 7, 7))}),
     r"conv1.weight has shape \(8, 1, 7, 7\), wanted \(8, 3, 7, 7\);")])
def test_what_does_not_fit_is_one_sentence(change, message, tmp_path):
  state = plain_towers.random_state(SHAPES["resnet"])
  change(state)
  with pytest.raises(ValueError, match=message):
    picture_towers.vision(write(tmp_path / "x.safetensors", state), RESNET)


def test_a_clip_without_texts_and_longer_texts_are_refused(tmp_path):
  state = {k: v for k, v in clip_state("").items() if k.startswith("visual.")}
  with pytest.raises(ValueError, match="lacks ln_final.bias, ln_final.weight"):
    picture_towers.clip_text(write(tmp_path / "x.safetensors", state), TEXT)
  longer = schema.Text(**vars(TEXT) | {"max_tokens": 12})
  with pytest.raises(ValueError, match=r"shape \(9, 8\), wanted \(12, 8\)"):
    picture_towers.clip_text(
        write(tmp_path / "y.safetensors", clip_state("")), longer)

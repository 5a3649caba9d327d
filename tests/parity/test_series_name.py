"""The series-name encoder at full width against the published one."""

import numpy as np

from itemclip_jax.data import series_name
from itemclip_jax.models import layers
from itemclip_jax.models.series_name import SeriesNameEncoder
from tests.parity import torch_names
from tests.parity.compare import assert_close
from tests.parity.compile import jit

FAMILY = "seriesname_encoder_"


def test_encoding_agrees(data):
  heads = int(data["cfg.heads"])
  model = SeriesNameEncoder(
      width=int(data["cfg.embsize"]), depth=int(data["cfg.depth"]),
      num_heads=heads, hidden=int(data["cfg.mlp_dim"]))
  stored = torch_names.under(data, "param")  # halved to save space
  params = torch_names.series_name(
      {k: v.astype(np.float32) for k, v in stored.items()}, heads)
  ours = jit(model.apply)({"params": params}, data["in.ids"])
  assert_close(ours, data["out.encoding_prelinear"], "encoding_prelinear")


def test_table_and_character_codes_agree(data):
  theirs = data["out.p_enc_table"]
  assert_close(layers.interleaved_sincos(*theirs.shape), theirs, "p_enc_table")
  length = data["in.ids"].shape[1]
  codes = [series_name.codes(str(name), length) for name in data["cfg.names"]]
  np.testing.assert_array_equal(codes, data["in.ids"])

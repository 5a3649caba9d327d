"""Hugging Face's BERT <-> `models.bert.Bert`."""

from itemclip_jax.interop import mapping
from itemclip_jax.interop.mapping import LINEAR, MERGED, Rule

_LAYER = (
    *(rule for q in ("query", "key", "value") for rule in mapping.dense(
        f"attention.self.{q}", f"_attention/{q}", LINEAR)),
    *mapping.dense("attention.output.dense", "_attention/out", MERGED),
    *mapping.affine("attention.output.LayerNorm", "_norm1"),
    *mapping.dense("intermediate.dense", "_mlp/fc1"),
    *mapping.dense("output.dense", "_mlp/fc2"),
    *mapping.affine("output.LayerNorm", "_norm2"),
)

RULES = (
    Rule("embeddings.word_embeddings.weight", "word/embedding"),
    Rule("embeddings.position_embeddings.weight", "position/embedding"),
    Rule("embeddings.token_type_embeddings.weight", "type/embedding"),
    *mapping.affine("embeddings.LayerNorm", "norm"),
    *mapping.under("encoder.layer.{i}.", "layer{i}", _LAYER),
)

# Read off the first token instead; 0, 1, 2, ... in older files.
UNUSED = (r"pooler\..*", r"embeddings\.position_ids",
          r"embeddings\.token_type_ids")

"""Which families of golden files have a parity test, and which not yet."""

# File-name prefix -> test module. A file belongs to its longest prefix.
COVERED = {
    "baseline_": "test_baselines",
    "crossattn_": "test_item_attention",
    "hlip_": "test_hlip",
    "hlip_mae2d_to_3d": "test_mae",
    "hlip_posembed": "test_position_tables",
    "loss_multi_": "test_grouped_loss",
    "loss_single_": "test_itemized_loss",
    "metrics_binary": "test_metrics",
    "metrics_pub_brain_5": "test_pub_brain",
    "model2d_": "test_model2d",
    "optimizer_": "test_optimizer",
    "preprocess_ct": "test_preprocess_ct",
    "preprocess_ct_resample": "test_preprocess_ct_resample",
    "preprocess_mri": "test_preprocess_mri",
    "preprocess_pubbrain": "test_preprocess_pubbrain",
    "retrieval_": "test_retrieval",
    "seriesname_encoder_": "test_series_name",
    "text_hf_": "test_bert",
    "zeroshot_ct_rate": "test_zeroshot",
    "zeroshot_rsicd": "test_rsicd",
}

# File-name prefix -> what will cover it. This table only ever gets shorter.
NOT_YET_COVERED = {}


def owner(name: str) -> str | None:
  """The longest prefix of either table that `name` starts with."""
  prefixes = [p for p in COVERED | NOT_YET_COVERED if name.startswith(p)]
  return max(prefixes, key=len, default=None)

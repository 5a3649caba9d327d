"""Which families of golden files have a parity test, and which not yet."""

# File-name prefix -> test module. A file belongs to its longest prefix.
COVERED = {
    "crossattn_": "test_item_attention",
    "loss_single_": "test_itemized_loss",
}

# File-name prefix -> what will cover it. This table only ever gets shorter.
NOT_YET_COVERED = {
    "loss_multi_": "the loss with virtual ranks (`loss.groups`)",
    "hlip_": "vision tower: encoders, position tables, MAE inflation",
    "seriesname_encoder_": "series-name encoder at full width",
    "optimizer_": "AdamW trajectory and learning-rate schedule",
    "preprocess_": "MRI and CT preprocessing, Pub-Brain-5 loader",
    "metrics_": "binary metrics, Pub-Brain-5 metrics",
    "zeroshot_": "zero-shot scoring: CT-RATE, RSICD",
    "retrieval_": "retrieval by TCSim",
    "baseline_": "FLAIR, CLIP and SigLIP losses",
    "model2d_": "2-D towers",
    "text_hf_": "BERT text tower",
}

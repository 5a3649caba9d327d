"""Names and sentences of a report that hold for all kinds of evaluators."""

TITLES = {
    "zeroshot_auc": "Which findings it recognises",
    "segmentation": "Where it looks",
    "series_ranking": "Which series it looks at",
    "region_text": "What it sees in a box",
    "linear_probe": "What a few labels add",
    "embedding_quality": "Order in the common space",
    "item_overlap": "Whether findings keep apart",
    "retrieval": "Search by text and by image",
    "item_retrieval": "Search by single findings",
    "ct_rate": "CT-RATE: findings of the chest",
    "ct_rate_hlip": "CT-RATE, pairs of prompts",
    "ct_rate_hlip_volume": "CT-RATE, pairs of prompts about the volume",
    "rad_chest_ct": "Rad-ChestCT: findings of the chest",
    "rad_chest_ct_15": "Rad-ChestCT, 15 columns",
    "rad_chest_ct_hlip": "Rad-ChestCT, pairs of prompts",
    "rsna": "RSNA 2019: bleeding in the head",
    "cq500": "CQ500: head CT",
    "pub_brain_5": "Pub-Brain-5: brain MRI",
    "pub_brain_5_gt": "Pub-Brain-5, confirmed diagnoses",
    "pub_brain_5_hlip": "Pub-Brain-5, HLIP's prompts",
    "pub_brain_5_gt_hlip": "Pub-Brain-5, confirmed diagnoses, HLIP's prompts",
    "rsicd": "RSICD: aerial pictures, 30 classes",
    "brats": "BraTS: attention against the tumour",
}

# First part of a number's name -> the evaluator that measures it, where these
# differ.
OWNERS = {"pointing": "segmentation"}

# First parts of a metric that set a variant of the same numbers apart.
VARIANTS = {"average/": "mean of prompts", "global/": "global vector",
            "two_stage/": "two stages", "whole_study/": "without a box",
            "1%/": "1 % of the labels", "10%/": "10 % of the labels",
            "100%/": "all labels"}

# Part of a number's name that stands for a model or a table -> heading.
COLUMNS = {
    "tcsim": "AUC",
    "balanced_accuracy": "Balanced accuracy", "accuracy": "Accuracy",
    "f1_weighted": "Weighted F1", "macro_auc": "Macro AUC",
    "precision": "Precision", "recall": "Recall", "auc": "AUC",
    "text_to_image": "Image found by text",
    "image_to_text": "Text found by image",
    "mean_rank": "Mean rank", "median_rank": "Median rank",
    "top1": "First choice right", "top5": "Among the first five",
    "mams": "mAMS", "mll": "MLL",
    "own_tcsim": "Mean TCSim of own items", "mean_tcsim": "Mean over findings",
}

RULES = {
    "test": "chosen on the test labels (published rule)",
    "valid": "chosen on a validation split",
    "half": "0.5 of a pair",
}
THRESHOLDS = (
    "To call a finding present, a threshold is needed. Chosen on the very "
    "labels that it is judged on (the published rule, @test) it has seen the "
    "answers, so its numbers flatter the model; a threshold from a validation "
    "split (@valid) has not. Accuracy counts calls, so it is high for a rare "
    "finding that is never called; balanced accuracy is the mean of "
    "sensitivity and specificity. Publications on chest CT print plain "
    "accuracy as “balanced ACC”.")
PAIR = (
    "The score of a finding is the model's preference for “present” over "
    "“absent”, so it is a probability by its make; it was never tuned to be "
    "right, and the diagonal is what a tuned one would follow.")
SINGLE = (
    "This is the probability that a text belongs to a study among the pairs of "
    "training, most of which do not belong together: at no similarity it is "
    "{prior:.2g}. It is not the probability of a finding in a clinic, and "
    "lying off the diagonal is expected. A line that rises says that higher "
    "scores do mean more findings.")

GALLERIES = {
    "Surest hits": "Right, and with the clearest scores.",
    "Worst misses": "The finding is there, and the score is among the lowest.",
    "Worst false alarms": "The finding is not reported, and the score is among "
                          "the highest.",
    "Surest errors": "Wrong, and with the clearest scores.",
    "Best overlap": "Attention and outline agree best.",
    "Worst overlap": "Attention and outline agree least.",
    "Where it looks": "One lesion of each kind, hit or miss.",
}

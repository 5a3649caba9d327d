"""What a report says about each evaluator, for readers who did not write it.

Data only. A *kind* is a module of `evaluators`; prompt sets share the kind of
their module. A number without an entry here still stands in a table.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Card:
  """A headline number: "<evaluator>/<metric>" of results.json.

  What it is compared with: "<metric>_untrained", "<metric>_chance", published
  values of it, and `others`.
  """
  metric: str
  title: str
  meaning: str
  unit: str                                    # what its n counts
  others: tuple[tuple[str, str], ...] = ()     # (what, metric)

  def compared(self) -> list[tuple[str, str]]:
    """(what, metric) of the numbers that it should be compared with."""
    own = [(what, f"{self.metric}_{what}") for what in ("chance", "untrained")]
    return [*self.others, *own]


@dataclasses.dataclass(frozen=True)
class Chart:
  """A figure: `draw` names a function of `section_figures`."""
  draw: str
  alt: str
  caption: str
  family: str = ""             # numbers "<evaluator>/<family>/<task>"
  title: str = ""
  axis: str = ""
  start: float = 0.0           # where bars begin


@dataclasses.dataclass(frozen=True)
class Kind:
  """What is measured, in plain words, and how it is shown."""
  words: str
  cards: tuple[Card, ...] = ()
  charts: tuple[Chart, ...] = ()
  n: str = "n"                 # heading of the n of its tables


_RADAR = Chart(
    "radar", "Radar plot: one spoke per task, one line per model; the numbers "
    "are in the table of tasks.",
    "One spoke per task; further out is better, rings are labelled. The solid "
    "line is this model, dashed ones are others.",
    family="tcsim", title="AUC by task", start=0.5)

KINDS = {
    "zeroshot_auc": Kind(
        "Each finding is put to the model as a sentence, without any training "
        "for it, and every study gets a score. Measured is whether studies "
        "with the finding score higher than studies without it.",
        cards=(
            Card("mean_tcsim", "Mean AUC",
                 "Mean over findings: does the score rise when the finding is "
                 "there? 0.5 is guessing, 1 is perfect.", "findings",
                 (("untrained", "mean_untrained"),)),
            Card("mean_global", "AUC, global vector",
                 "The same with one vector for the whole study; the gap is "
                 "what looking at the right place adds.", "findings",
                 (("with attention", "mean_tcsim"),))),
        charts=(
            Chart("task_bars",
                  "Bar chart of the AUC of each finding with 95 % intervals; "
                  "the same numbers are in the table of findings.",
                  "Bars start at chance. Thin lines are 95 % intervals, open "
                  "marks other models; n is the number of positive studies.",
                  family="tcsim", title="AUC by finding", start=0.5,
                  axis="AUC (1 = perfect, 0.5 = chance)"),
            _RADAR,
            Chart("reliability",
                  "How often a finding was present, by the probability that "
                  "the model gave; a histogram of the probabilities below.",
                  "All studies and findings together, in ten bins of the "
                  "model's probability.")),
        n="Positive"),
    "classify": Kind(
        "Every study belongs to one class. Each class is put to the model as a "
        "sentence; the class whose sentence fits best is the answer. Balanced "
        "accuracy is the mean over classes of the share that was recognised, "
        "so that a frequent class cannot hide a rare one.",
        cards=(
            Card("mean_balanced_accuracy", "Balanced accuracy",
                 "Mean over tasks. Guessing gives one half between two "
                 "classes, a fifth among five.", "tasks"),
            Card("balanced_accuracy", "Balanced accuracy",
                 "Mean over classes of the share that was recognised.",
                 "studies"),
            Card("top1", "First choice right",
                 "How often the best-fitting class is the true one.",
                 "studies"),
            Card("top5", "Among the first five",
                 "How often the true class is among the five that fit best.",
                 "studies"),
            Card("mean_rank", "Mean rank",
                 "Place of the true class; 1 is best.", "studies")),
        charts=(
            Chart("task_bars",
                  "Bar chart of the balanced accuracy of each task with 95 % "
                  "intervals; the same numbers are in the table of tasks.",
                  "Thin lines are 95 % intervals. Chance is one half between "
                  "two classes, a third among three, a fifth among five.",
                  family="balanced_accuracy", title="Balanced accuracy by task",
                  axis="balanced accuracy (1 = perfect)"),
            dataclasses.replace(_RADAR, family="balanced_accuracy",
                                title="Balanced accuracy by task", start=0.0),
            Chart("confusion",
                  "Confusion matrix: true classes in rows, answers in columns.",
                  "Rows are what a study was, columns what the model called "
                  "it; each row adds up to 100 %. The diagonal is right.",
                  title="All classes against each other")),
        n="Studies"),
    "retrieval": Kind(
        "A text is used to search among all images, and an image among all "
        "texts. R@k is the share of searches with a right answer among the "
        "first k; complete@k asks that all right answers are among them.",
        cards=(
            Card("text_to_image/r@1", "Image found at once",
                 "How often the first image is right for a text.", "texts"),
            Card("image_to_text/r@1", "Text found at once",
                 "How often the first text is right for an image.", "images")),
        charts=(
            Chart("number_bars",
                  "Bar chart of the share of searches that succeed, in both "
                  "directions; the same numbers are in the table.",
                  "Thin lines are 95 % intervals; n is the number of searches. "
                  "Open marks: by one vector for the whole image, or in two "
                  "stages (the global vectors choose candidates).",
                  family=r"(text_to_image|image_to_text)/(r|complete)@\d+",
                  title="Searches that succeed", axis="share of searches"),),
        n="Searches"),
    "segmentation": Kind(
        "When a sentence names a lesion, does the model look at it? The image "
        "is cut into small boxes (tokens), each with a share of attention. "
        "Pointing asks for the one box with most attention, overlap for the "
        "most attended boxes together. The model never saw an outline.",
        cards=(
            Card("top1", "Pointing",
                 "How often the single most attended token lies on the lesion "
                 "that the text names.", "lesions",
                 (("chance", "chance"), ("untrained", "untrained"))),
            Card("series_top1", "Right series",
                 "How often the most attended series is one that shows the "
                 "lesion.", "lesions", (("chance", "series_chance"),)),
            Card("iou", "Overlap (IoU)",
                 "Overlap of the most attended tokens with the lesion outline. "
                 "Tokens are boxes, so 1 cannot be reached.", "outlines"),
            Card("dice", "Overlap (Dice)",
                 "The same overlap as segmentation papers count it; it is "
                 "never smaller than IoU.", "outlines"),
            Card("pointing", "Pointing",
                 "How often the most attended token of the judged series lies "
                 "on the lesion.", "studies"),
            Card("study_pointing", "Pointing, whole study",
                 "The same over all series of the study.", "studies")),
        n="Lesions"),
    "region_text": Kind(
        "A box is laid on a lesion, the model may look at nothing else, and it "
        "sorts a long list of sentences by how well they fit. Measured is how "
        "far up the right sentence comes.",
        cards=(
            Card("r@1", "Right at once",
                 "How often the first sentence is the lesion's own.",
                 "lesions", (("without a box", "whole_study/r@1"),)),
            Card("r@10", "Among the first ten",
                 "How often the lesion's own sentence is among ten.", "lesions",
                 (("without a box", "whole_study/r@10"),)),
            Card("region_helps", "The box helps",
                 "Share of lesions whose sentence comes further up with the "
                 "box than without; an equal place counts half.", "lesions")),
        n="Lesions"),
    "series_ranking": Kind(
        "A study holds several series, and not each shows every finding. The "
        "series are ordered by the attention that a finding's sentence pays "
        "them; measured is whether those that show it come first.",
        cards=(
            Card("top1", "Right series first",
                 "How often the most attended series shows the finding.",
                 "findings"),
            Card("top3", "Among the first three",
                 "How often one of the first three series shows it.",
                 "findings"),
            Card("mean_rank", "Mean place",
                 "Place of the best series that shows it; 1 is best.",
                 "findings")),
        n="Findings"),
    "linear_probe": Kind(
        "The model is frozen and a simple linear classifier is trained on its "
        "study vectors with 1, 10 or 100 % of the labels: how much of what is "
        "needed is already in the vectors, and how many labels it takes.",
        cards=(
            Card("100%/mean_auc", "AUC, all labels",
                 "Mean over findings.", "findings"),
            Card("10%/mean_auc", "AUC, 10 % of the labels",
                 "Mean over findings.", "findings"),
            Card("1%/mean_auc", "AUC, 1 % of the labels",
                 "Mean over findings.", "findings")),
        charts=(
            Chart("shares",
                  "Line chart of the AUC against the share of the labels that "
                  "was used; the same numbers are on the cards.",
                  "Vertical lines are 95 % intervals over patients of the test "
                  "split; they do not hold how the labelled patients were "
                  "drawn.", family=r"([\d.]+)%/mean_auc",
                  title="AUC against the share of labels",
                  axis="mean AUC (0.5 = chance)"),),
        n="Positive"),
    "embedding_quality": Kind(
        "How images and texts lie in the model's common space. Alignment: are "
        "an image and its own text close? Uniformity: is the space used "
        "evenly? Modality gap: do images and texts keep apart? Cluster scores: "
        "do studies with the same label lie together?"),
    "item_overlap": Kind(
        "Findings of one report should be looked for at different places, and "
        "none should be forgotten. mAMS is how alike the attention maps of two "
        "findings of a study are (lower is better); MLL is how well the "
        "worst-matched finding of a study fits (higher is better).",
        cards=(
            Card("mams", "Overlap of maps (mAMS)",
                 "Mean similarity of the attention of two findings of one "
                 "study; lower is better.", "studies"),
            Card("mll", "Worst finding (MLL)",
                 "Similarity of the finding that fits its own study least; "
                 "higher is better.", "studies")),
        n="Studies"),
}
UNKNOWN = Kind("No words are kept for this evaluator; its numbers are below.")

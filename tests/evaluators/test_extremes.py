"""Which studies are shown, by hand."""

import numpy as np

from itemclip_jax.evaluators import extremes

#                   task 0  task 1
SCORES = np.array([[0.9,    0.8],    # both present
                   [0.8,    0.1],    # both present
                   [0.3,    0.7],    # absent, present
                   [0.2,    0.9],    # absent, absent
                   [0.1,    0.2]])   # absent, not annotated
LABELS = np.array([[1, 1], [1, 1], [0, 1], [0, 0], [0, -1]])


def _found(group, scores=SCORES, labels=LABELS):
  return [(x.row, x.task, x.share) for x in extremes.find(scores, labels)
          if x.group == group]


def test_groups_by_hand():
  assert _found("Surest hits") == [(0, 0, 1.0)]   # task 1 has no hit at all
  assert _found("Worst misses") == [(1, 1, 0.0)]  # further down than study 2
  assert _found("Worst false alarms") == [(3, 1, 1.0)]


def test_pictures_of_a_group_are_of_different_tasks_and_studies():
  scores = np.tile(SCORES[:, :1], (1, 3)) * [1, 1, 1]
  labels = np.tile(LABELS[:, :1], (1, 3))
  assert _found("Surest hits", scores, labels) == [(0, 0, 1.0), (1, 1, 1.0)]


def test_a_sentence_says_what_the_ranks_are():
  hit, miss, _ = extremes.find(SCORES, LABELS)
  assert hit.sentence("Emphysema") == (
      "Emphysema is present; scored above 100 % of the 3 studies without it.")
  assert miss.present
  alarm = extremes.find(SCORES, LABELS)[2]
  assert alarm.sentence("Nodule") == (
      "Nodule is absent; scored above 100 % of the 3 studies with it.")


def test_one_class_or_no_preference_shows_nothing():
  assert not extremes.find(SCORES, np.ones_like(LABELS))
  assert not extremes.find(np.zeros_like(SCORES), LABELS)


def test_a_monotone_change_of_scale_keeps_the_shares():
  rng = np.random.default_rng(0)
  scores, labels = rng.normal(size=(50, 4)), rng.integers(-1, 2, (50, 4))
  shares = lambda s: [x[2] for g in ("Worst misses", "Worst false alarms")
                      for x in _found(g, s, labels)]
  assert len(shares(scores)) == 4
  assert shares(scores) == shares(5 * scores + 1)

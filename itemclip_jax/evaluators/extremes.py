"""The studies that a reader should look at: surest hits and worst mistakes.

A study with a finding is judged by the share of studies without it that score
lower, a study without it by the share of those with it. Of equal shares the
one further from the rivals' mean, in their standard deviations, comes first;
then the order of tasks and studies decides. So the choice is the same in every
run.
"""

import dataclasses

import numpy as np

# Of each group, from different tasks and of different studies.
_SHOWN = 2


@dataclasses.dataclass(frozen=True)
class Extreme:
  """One study in one task.

  Attributes:
    group: the heading under which it stands.
    row: number of the study.
    task: number of the task.
    present: whether the study has the finding.
    share: of its rivals, those that score lower; ties count one half.
    rivals: labelled studies of the other class.
  """
  group: str
  row: int
  task: int
  present: bool
  share: float
  rivals: int

  def sentence(self, task: str) -> str:
    """What to say under the picture."""
    truth, others = (("present", "without") if self.present
                     else ("absent", "with"))
    return (f"{task} is {truth}; scored above {100 * self.share:.0f} % of the "
            f"{self.rivals} studies {others} it.")


def find(
    scores: np.ndarray,  # [N, T]
    labels: np.ndarray,  # [N, T] in {-1, 0, 1}
) -> list[Extreme]:
  """At most two hits, misses and false alarms each; none where none is."""
  groups = (("Surest hits", 1, 1), ("Worst misses", 1, -1),
            ("Worst false alarms", 0, 1))
  return [x for group, truth, sign in groups
          for x in _group(group, truth, sign, scores, labels)]


def _group(group: str, truth: int, sign: int, scores, labels) -> list[Extreme]:
  """Those of one class that lie furthest up (sign 1) or down (-1)."""
  candidates = []
  for t in range(scores.shape[1]):
    rows = np.flatnonzero(labels[:, t] == truth)
    rivals = np.sort(scores[labels[:, t] == 1 - truth, t])
    if not len(rows) or not len(rivals):
      continue
    own = scores[rows, t]
    share = (np.searchsorted(rivals, own, side="left")
             + np.searchsorted(rivals, own, side="right")) / (2 * len(rivals))
    far = (own - rivals.mean()) / (rivals.std() or 1.0)
    # As many as can be needed: each picture before takes one study at most.
    for i in np.argsort(-sign * own, kind="stable")[:_SHOWN]:
      if sign * (share[i] - 0.5) > 0:
        found = Extreme(group, int(rows[i]), t, truth == 1, float(share[i]),
                        len(rivals))
        candidates.append(((-sign * share[i], -sign * far[i]), found))
  shown = []
  for _, x in sorted(candidates, key=lambda c: c[0]):
    if len(shown) < _SHOWN and all(
        x.task != y.task and x.row != y.row for y in shown):
      shown.append(x)
  return shown

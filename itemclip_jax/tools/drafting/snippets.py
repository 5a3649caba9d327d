"""The findings of other patients that an image's vector is nearest to.

The index is the distinct items of a split. With v the image's global vector and
t_j the vector of text j, both of unit norm, the neighbours are the texts of
largest v . t_j, of which k are taken, by name:

    nearest    the k best (paper)
    clusters   k-means in k clusters of the best 100; of each cluster the text
               that is nearest to its centre (public code)

A text that nobody but the patient of the image has is never retrieved. One that
others have as well ("Study is unremarkable.") is theirs, too, and may be.

Reference: Kumar and Marttinen 2024, https://arxiv.org/abs/2403.10153, section
4.4 and its public code; the minimum in the paper's formula is a slip.
"""

from collections.abc import Sequence
import dataclasses
import pathlib

import numpy as np
from sklearn import cluster

from itemclip_jax.data import record
from itemclip_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Index:
  """Of n studies and their U distinct texts.

  Attributes:
    reports: the items of every study, in record order.
    patient_id: [n] str.
    normal: [n] bool.
    texts: U, in the order in which they come first.
    only_patient: [U] object, who alone has a text; None where several do.
  """
  reports: tuple[tuple[str, ...], ...]
  patient_id: np.ndarray
  normal: np.ndarray
  texts: tuple[str, ...]
  only_patient: np.ndarray


def read(root: pathlib.Path, split: str) -> Index:
  """Reads the texts of a split; no voxel of it is decoded.

  Raises:
    UserError: there is no such split, or it has no text.
  """
  opened = record.open_split(root, split, ground_truth=False)
  texts = record.Source(pathlib.Path(root) / opened.contract.records, split,
                        only=("items",))
  index = build([tuple(texts[n]["items"]) for n in range(len(texts))],
                opened.index["patient_id"].astype(str),
                opened.index["normal"].astype(bool))
  if not index.texts:
    raise UserError(f"Split {split!r} of {root} has no items, so nothing can "
                    "be retrieved from it; name another --index_split.")
  return index


def build(reports: Sequence[tuple[str, ...]], patient_id: np.ndarray,
          normal: np.ndarray) -> Index:
  """The index of n studies; arguments as its attributes."""
  owners = {}
  for items, patient in zip(reports, patient_id, strict=True):
    for text in items:
      owners.setdefault(text, set()).add(str(patient))
  only = np.empty(len(owners), object)
  only[:] = [next(iter(o)) if len(o) == 1 else None for o in owners.values()]
  return Index(tuple(reports), patient_id, normal, tuple(owners), only)


def neighbours(
    index: Index,
    vectors: np.ndarray,   # [U, E] unit norm
    image: np.ndarray,     # [E] unit norm
    patient: str,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:   # [m] numbers of texts, [m] cosines
  """The best texts of other patients, best first; m <= most, maybe 0.

  Of level ones the first of the index comes first.
  """
  allowed = np.flatnonzero(index.only_patient != patient)
  cosine = vectors[allowed] @ image
  best = np.argsort(-cosine, kind="stable")[:most]
  return allowed[best], cosine[best]


def representatives(
    points: np.ndarray,   # [m, V], best first
    k: int,
) -> np.ndarray:          # [min(k, m)] rows, increasing
  """One point of each of k clusters; see the header.

  Points that are the same are one cluster at most; where that leaves less than
  k, the best of the others fill up.
  """
  num_clusters = min(k, len(np.unique(points, axis=0)))
  found = cluster.KMeans(num_clusters, n_init=10, random_state=0).fit(points)
  distance = found.transform(points)                  # [m, clusters]
  chosen = []
  for c in range(num_clusters):
    members = np.flatnonzero(found.labels_ == c)
    chosen.append(int(members[np.argmin(distance[members, c])]))
  others = [n for n in range(len(points)) if n not in chosen]
  return np.array(sorted(chosen + others[:k - len(chosen)]), int)


def example_rows(index: Index, count: int, seed: int) -> list[int]:
  """Studies of the index for the examples of a prompt, at most `count`.

  Of different patients, with items; those that are not normal come first, for
  they show more of how findings become a report.
  """
  order = np.random.default_rng(seed).permutation(len(index.reports))
  rows, seen = [], set()
  for row in sorted(order, key=lambda r: index.normal[r]):
    patient = index.patient_id[row]
    if index.reports[row] and patient not in seen:
      rows.append(int(row))
      seen.add(patient)
  return rows[:count]

"""Studies, and a model whose attention and scores are given."""

import dataclasses
from types import SimpleNamespace

import numpy as np

FINDINGS = {
    "mass": {"prompts": ["a mass", "there is a mass"], "label": "mass"},
    "mass, left": {"prompts": ["mass on the left"], "label": "mass, left"},
    "bleed": {"prompts": ["a bleed"], "label": "bleed"},
}
GRID, VOXELS = (1, 2, 2), (1, 4, 4)   # tokens of 1 x 2 x 2 voxels


@dataclasses.dataclass
class Study:
  """One record; lists are in stored order.

  Attributes:
    names: of its series.
    items: its texts.
    boxes: item -> tokens (h, w) that its outline covers, in every series.
    finding: item -> number of its finding.
    shown: item -> series that show it.
    truth: whether the data set knows of outlines.
  """
  names: list[str]
  items: list[str] = dataclasses.field(default_factory=list)
  boxes: dict[int, list[tuple[int, int]]] = dataclasses.field(
      default_factory=dict)
  finding: dict[int, int] = dataclasses.field(default_factory=dict)
  shown: dict[int, list[int]] = dataclasses.field(default_factory=dict)
  truth: bool = True

  def example(self, num_series: int, slots: int) -> dict[str, np.ndarray]:
    """As of `data.example`, padded to `num_series`."""
    real = len(self.names)
    out = {"series_mask": np.arange(num_series) < real,
           "names": np.array(self.names + [""] * (num_series - real))}
    if not self.truth:
      return out
    lesion = np.zeros((num_series, *VOXELS), np.uint8)
    visible = np.zeros((slots, num_series), bool)
    finding = np.full(slots, -1, np.int32)
    for k, tokens in self.boxes.items():
      for h, w in tokens:
        lesion[:real, 0, 2 * h:2 * h + 2, 2 * w:2 * w + 2] = k + 1
    for k, f in self.finding.items():
      finding[k] = f
      visible[k, self.shown[k]] = True
    return out | {"lesion_mask": lesion, "item_finding": finding,
                  "item_visible": visible}


class Studies:
  """`features.Studies` of such records."""

  def __init__(self, studies, *, padding=0, slots=4, patients=None):
    self._studies, self._slots = studies, slots
    self.num_series = max(len(s.names) for s in studies) + padding
    self.split = SimpleNamespace(findings=FINDINGS)
    self.findings = tuple(FINDINGS)
    self.study_id = np.array([f"study-{i}" for i in range(len(studies))])
    self.patient_id = np.array(patients or self.study_id)

  def __len__(self):
    return len(self._studies)

  def example(self, row):
    return self._studies[row].example(self.num_series, self._slots)

  def items(self, row):
    return tuple(self._studies[row].items)


class Scorer:
  """`scoring.Scorer` that looks its answers up.

  Attributes:
    maps: (study, text) -> [series of the study, d, h, w].
    tcsim: (study, text) -> number; 0 where it is not given.
  """

  def __init__(self, maps=None, tcsim=None):
    self.maps, self.tcsim = maps or {}, tcsim or {}

  def attention(self, studies, which):
    for row in sorted(which):
      out = np.zeros((len(which[row]), studies.num_series, *GRID), np.float32)
      for i, text in enumerate(which[row]):
        one = np.asarray(self.maps[row, text])
        out[i, :len(one)] = one
      yield row, out

  def scores(self, studies, texts):
    table = [[self.tcsim.get((row, t), 0.0) for t in texts]
             for row in range(len(studies))]
    return SimpleNamespace(tcsim=np.array(table, np.float32))

  def pairs(self, studies, texts, which, *, normalise):
    assert normalise and len(texts)
    return [np.array([self.tcsim.get((row, texts[i]), 0.0) for i in own])
            for row, own in zip(range(len(studies)), which, strict=True)]


def context(studies: Studies, scorer: Scorer, name: str, *, options=None,
            top_tokens=1, max_items=4, seed=0):
  """`context.Context` of them."""
  return SimpleNamespace(
      config=SimpleNamespace(
          seed=seed, eval=SimpleNamespace(top_tokens=top_tokens),
          text=SimpleNamespace(items_seen=max_items)),
      name=name, spec=options and SimpleNamespace(options=options),
      scorer=scorer, studies=studies, grid=GRID)


def numbers(module, evaluator, name: str) -> dict[str, float]:
  """What is measured of all rows."""
  table = evaluator.collect()
  found = module.measure(name, table, evaluator.meta())
  ones = np.ones((1, len(table["study_id"])), int)
  return dict(zip(found.names, found.statistic(ones)[0], strict=True))


def random_maps(studies: Studies, texts, seed: int = 0) -> dict:
  """Attention of every text over the real series of every study."""
  rng = np.random.default_rng(seed)
  return {(row, t): rng.dirichlet(np.ones(s * 4)).reshape(s, *GRID)
          for row in range(len(studies)) for t in texts
          for s in [int(studies.example(row)["series_mask"].sum())]}

"""One class per study: the class whose text is most similar is the answer.

The score of a class is the TCSim (or, under "<name>/global/", the cosine with
the global vector) of its prompt. Several prompts of a class are combined as the
prompt set says: "vector", the normalised mean of the normalised embeddings is
the class's text (RSICD), or "mean" of their scores. The class of a study is the
one column that is 1; a study with none or several is left out and counted.

A *task* is a choice among some classes, made for the studies of these classes
only; its metrics are those of `confusion`. "mean_<metric>" is over the tasks
that have it, and NaN where one of them is: fewer tasks are another number.

Among all classes, whatever the tasks, with a above and l level (itself
included) of a study's own class:

    top<k>              is it among the first k? (k - a) / l, within 0 and 1
    mean_rank           from 1, a + (l + 1) / 2

so a model that prefers nothing scores what guessing scores.

References: Zhao et al. 2025, https://arxiv.org/abs/2505.21862 (Pub-Brain-5);
Lyu et al. 2025, https://arxiv.org/abs/2512.11141 (its bare prompts; RSICD).
"""

import dataclasses
import pathlib
import re

import numpy as np

from itemclip_jax.errors import UserError, read_json, some
from itemclip_jax.evaluators import confusion, measures
from itemclip_jax.evaluators.context import Context, Example, Table
from itemclip_jax.evaluators.scoring import Scores
from itemclip_jax.parallel import multihost

_OF_RANKS = re.compile(r"mean_rank|top([1-9]\d*)")
_FAMILIES = {"tcsim": "", "global": "/global"}  # of columns -> in the name

# What "subset" may be, and its file in the data set.
_SUBSETS = {"ground_truth": "ground_truth.json"}
_PICTURES = 4   # of each kind


class Evaluator:
  """One row per study that has a class; `predicted` counts meta's classes.

  Raises:
    UserError: the prompt set asks for what is not there; no study has a class.
  """
  REQUIRES = ("labels",)

  def __init__(self, context: Context):
    if context.spec is None:
      raise UserError("The evaluator classify needs a prompt set; name one, "
                      "such as pub_brain_5, in config.eval.evaluators.")
    self._context, options = context, context.spec.options
    self._classes, self._metrics = options["classes"], options["metrics"]
    self._tasks = options.get("tasks") or {
        "all": {"classes": list(self._classes)}}
    self._left_out: dict[str, int] = {}
    self._check()
    texts = [p for c in self._classes.values() for p in c["prompts"]]
    self.prompts = () if self._by_vector else tuple(texts)

  @property
  def _by_vector(self) -> bool:
    return self._context.spec.combine == "vector"

  def _check(self):
    """Raises for what only the data set and this module know."""
    spec, where = self._context.spec, f"The prompt set {self._context.name}"
    have = self._context.studies.findings
    for name, entry in self._classes.items():
      if entry["label"] not in have:
        raise UserError(f"{where} reads the label {entry['label']!r} for class "
                        f"{name!r}; the data set has {some(have)}.")
    for metric in self._metrics:
      if metric not in confusion.METRICS and not _OF_RANKS.fullmatch(metric):
        raise UserError(f"{where} has the metric {metric!r}; want one of "
                        f"{', '.join(confusion.METRICS)}, mean_rank, top1, "
                        "top2 and so on.")
      if metric in confusion.OF_A_POSITIVE and not any(
          "positive" in task for task in self._tasks.values()):
        raise UserError(f"{where} has the metric {metric!r}, but no task names "
                        "its positive class; add it.")
    for name, task in self._tasks.items():
      if task.get("positive", task["classes"][0]) not in task["classes"]:
        raise UserError(f"{where} has {task['positive']!r} as positive class "
                        f"of task {name!r}, which is not among its classes; "
                        "add it to them.")
    if spec.combine == "best":
      raise UserError(f"{where} has combine='best', which is of single "
                      "findings; want 'mean' or 'vector'.")
    if spec.options.get("subset", "ground_truth") not in _SUBSETS:
      raise UserError(f"{where} has the subset {spec.options['subset']!r}; "
                      f"want {', '.join(_SUBSETS)}, or none.")

  def collect(self) -> Table:
    """Scores of every class, beside the true one."""
    studies, names = self._context.studies, list(self._classes)
    columns = [studies.findings.index(c["label"])
               for c in self._classes.values()]
    labels = studies.labels[:, columns] == 1
    truth, number = labels.argmax(1), labels.sum(1)
    wanted = self._wanted(truth)
    keep = (number == 1) & wanted
    self._left_out = {"without_class": int((number == 0).sum()),
                      "of_several_classes": int((number > 1).sum()),
                      "outside_subset": int((number == 1).sum() - keep.sum())}
    self._say(names, truth[keep])
    scores = self._scores()
    each = {f"{family}/{name}": column[keep] for family, columns in
            (("tcsim", scores.tcsim), ("global", scores.cosine))
            for name, column in zip(names, columns.T, strict=True)}
    return {"study_id": studies.study_id[keep],
            "patient_id": studies.patient_id[keep],
            "truth": np.array(names)[truth[keep]],
            "predicted": scores.tcsim[keep].argmax(1)} | each

  def _wanted(self, truth: np.ndarray) -> np.ndarray:
    """[n] bool: the studies of the subset."""
    ids, subset = self._context.studies.study_id, self._context.spec.options
    if "subset" not in subset:
      return np.ones(len(ids), bool)
    root = pathlib.Path(self._context.config.data.root)
    path = root / _SUBSETS[subset["subset"]]
    if not path.is_file():
      raise UserError(f"{self._context.name} is about the studies of {path}, "
                      "which is missing; build the set again with the table of "
                      "the lesions' slices beside that of the labels.")
    members = read_json(path, "Build the set again.")
    return np.isin(ids, list(members)) | (truth == 0)

  def _say(self, names: list[str], truth: np.ndarray):
    """Tells what is left out and what cannot be measured."""
    name, out = self._context.name, self._left_out
    if not len(truth):
      raise UserError(f"{name}: no study of the split has one of the classes "
                      f"{', '.join(names)}; measure another split or set.")
    empty = [n for i, n in enumerate(names) if i not in truth]
    if multihost.is_main() and any(out.values()):
      print(f"{name}: left out {out['without_class']} studies without a class, "
            f"{out['of_several_classes']} of several, and "
            f"{out['outside_subset']} that are not of the subset.")
    if (multihost.is_main() and empty
        and any(m in confusion.METRICS for m in self._metrics)):
      print(f"{name}: no study is of class {', '.join(empty)}; tasks with it "
            "are undefined.")

  def _scores(self) -> Scores:
    """[n, C] each, over all studies."""
    scorer, studies = self._context.scorer, self._context.studies
    prompts = [c["prompts"] for c in self._classes.values()]
    if self._by_vector:
      return scorer.scores(studies, np.stack(
          [class_vector(scorer.texts(texts)) for texts in prompts]))
    owner = np.repeat(np.arange(len(prompts)), [len(p) for p in prompts])
    every = scorer.scores(studies, self.prompts)
    return Scores(*(np.stack([x[:, owner == c].mean(1)
                              for c in range(len(prompts))], 1)
                    for x in every))

  def meta(self) -> dict:
    """Classes and tasks, what is wanted, and how many studies are left out."""
    return {"classes": list(self._classes), "tasks": self._tasks,
            "metrics": list(self._metrics),
            "combine": self._context.spec.combine} | self._left_out

  def examples(self, table: Table) -> list[Example]:
    """The surest right and wrong answers, with what the answer looked at."""
    names = list(self._classes)
    row_of = {s: i for i, s in enumerate(self._context.studies.study_id)}
    scores = _family(table, "tcsim", names)
    ranked = np.sort(scores, axis=1)
    margin = ranked[:, -1] - ranked[:, -2] if len(names) > 1 else ranked[:, -1]
    right = np.array(names)[table["predicted"]] == table["truth"]
    out = []
    for group, mine in (("Surest hits", right), ("Surest errors", ~right)):
      rows = np.flatnonzero(mine)
      for row in rows[np.argsort(-margin[rows], kind="stable")][:_PICTURES]:
        called = names[table["predicted"][row]]
        out.append(Example(
            row=row_of[table["study_id"][row]], group=group,
            text=self._classes[called]["prompts"][0],
            caption=f"{table['truth'][row]}, called {called}",
            score=float(scores[row].max())))
    return out


def class_vector(prompts: np.ndarray) -> np.ndarray:
  """Unit mean [E] of the unit vectors of a class's prompts [P, E]."""
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  return unit(unit(prompts).mean(0))


def measure(name: str, table: Table, meta: dict) -> measures.Measures:
  """All metrics, by TCSim and by the global vector."""
  classes = meta["classes"]
  truth = np.array([classes.index(c) for c in table["truth"]], int)
  parts = []
  for family, infix in _FAMILIES.items():
    scores = _family(table, family, classes)
    if np.isnan(scores).any():
      raise ValueError(f"{np.isnan(scores).any(1).sum()} of {len(scores)} "
                       f"studies have {family} scores that are NaN; find out "
                       "what the model fails on.")
    parts += [_tasks(name + infix, scores, truth, meta),
              _ranks(name + infix, scores, truth, meta)]
  out = measures.join(parts)
  return dataclasses.replace(
      out, unlabeled=(meta["without_class"],) * len(out.names))


def _family(table: Table, family: str, classes: list[str]) -> np.ndarray:
  """Columns [N, C] of one kind of score."""
  return np.stack([table[f"{family}/{c}"] for c in classes], 1).astype(float)


def _ranks(
    prefix: str,
    scores: np.ndarray,  # [N, C]
    truth: np.ndarray,   # [N] number of the class
    meta: dict,
) -> measures.Measures:
  own = np.take_along_axis(scores, truth[:, None], 1)
  above, level = (scores > own).sum(1), (scores == own).sum(1)
  columns = {m: np.clip((int(found[1]) - above) / level, 0, 1) if found[1]
             else above + (level + 1) / 2
             for m in meta["metrics"] if (found := _OF_RANKS.fullmatch(m))}
  return measures.means(
      tuple(f"{prefix}/{m}" for m in columns),
      np.stack(list(columns.values()), 1) if columns
      else np.zeros((len(truth), 0)))


def _tasks(
    prefix: str,
    scores: np.ndarray,  # [N, C]
    truth: np.ndarray,   # [N] number of the class
    meta: dict,
) -> measures.Measures:
  """Means over tasks, then every task's metrics."""
  wanted = [m for m in meta["metrics"] if m in confusion.METRICS]
  if not wanted:
    return measures.means((), np.zeros((len(truth), 0)))
  tasks, each, support = meta["tasks"], [], []
  for task in tasks.values():
    places = [meta["classes"].index(c) for c in task["classes"]]
    inside = np.full(len(meta["classes"]), -1)
    inside[places] = np.arange(len(places))
    # Where no class is positive any will do: what it is for is not in `has`.
    positive = task["classes"].index(task.get("positive", task["classes"][0]))
    each.append(confusion.statistic(
        scores[:, places], inside[truth], wanted, positive=positive))
    support.append(int((inside[truth] >= 0).sum()))
  has = np.array([["positive" in t or m not in confusion.OF_A_POSITIVE
                   for t in tasks.values()] for m in wanted])    # [M, T]

  def statistic(counts):
    values = np.stack([task(counts) for task in each], 2)     # [R, M, T]
    mean = np.where(has, values, 0).sum(2) / has.sum(1)
    return np.concatenate([mean, values[:, has]], 1)

  named = [(m, t, n) for i, m in enumerate(wanted)
           for j, (t, n) in enumerate(zip(tasks, support)) if has[i, j]]
  return measures.Measures(
      names=(*(f"{prefix}/mean_{m}" for m in wanted),
             *(f"{prefix}/{m}/{t}" for m, t, _ in named)),
      statistic=statistic,
      support=(*has.sum(1).tolist(), *(n for *_, n in named)))

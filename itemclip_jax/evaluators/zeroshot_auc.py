"""Zero-shot multi-label AUC: the score of a task is that of its prompts.

By TCSim (the prompt pools the tokens it speaks of) and by the study's global
vector. Without a prompt set the tasks are the findings of the data set, the
scores of whose prompts are averaged. With one, its kind and its way to combine
prompts apply (`prompts`), and calls at thresholds are judged as well:

    <name>/mean_tcsim, mean_global    mean AUC over tasks with enough positives
    <name>/tcsim/<task>               n is the number of positives
    <name>/average/...                where the best prompt of each task counts:
                                      the same with the mean over its prompts
    <name>/mean_<call>@<where>        <call> is one of `resampled.CALLS`, of the
    <name>/<call>@<where>/<task>      TCSim, over the same tasks
    <name>/threshold@<where>/<task>   score > threshold is a positive call

where "@test" is the threshold of `metrics.roc_threshold` on the labels that it
is judged on, as published, "@valid" that of the split eval.threshold_split, and
"@half" one half of a pair's probability. Thresholds on the test labels flatter
the model, and so does the best prompt, chosen by its AUC on them. Resamples
move neither. With the rule "best_f1" thresholds are `metrics.f1_threshold`, F1
is one of the calls, and they are made by the global vector, too (<name>/global/
mean_<call>@... and so on), by which the models that are judged so rank.

Published "balanced ACC" of chest CT is "accuracy@test" here.

References: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, supplement; pairs
as in HLIP, Zhao et al. 2025, https://arxiv.org/abs/2505.21862; best F1 as in
MedFILIP, Liang et al., IEEE JBHI 2025.
"""

from typing import Any

import numpy as np

from itemclip_jax.errors import UserError, some
from itemclip_jax.evaluators import extremes, measures, metrics, resampled
from itemclip_jax.evaluators.context import Context, Example, Table
from itemclip_jax.evaluators.features import Studies
from itemclip_jax.evaluators.prompts import Task
from itemclip_jax.parallel import multihost

# Rule for thresholds -> scores that are called positive by it.
_CALLED_BY = {"roc": ("tcsim",), "best_f1": ("tcsim", "global")}
_INFIX = {"tcsim": "", "global": "/global"}   # of them in the names of calls


class Evaluator:
  """One row per study: its score and label in every task.

  Attributes:
    prompts: of all tasks.

  Raises:
    UserError: the data set has a label for none of the tasks, or the prompt set
      combines prompts in a way that is not for this evaluator.
  """
  REQUIRES = ("labels",)

  def __init__(self, context: Context):
    self._context, spec = context, context.spec
    self._tasks = spec.tasks if spec else {
        name: Task(label=f["label"], prompts=tuple(f["prompts"]))
        for name, f in context.studies.split.findings.items()}
    self._pair = bool(spec) and spec.kind == "pair"
    self._best = bool(spec) and spec.combine == "best"
    if spec and spec.combine == "vector":
      raise UserError(f"The prompt set {context.name} combines by 'vector', "
                      "which zeroshot_auc cannot; use 'mean' or 'best'.")
    self._missing = self._without_label()
    self._valid: dict[str, float] | None = None
    self.prompts = tuple(dict.fromkeys(
        text for t in self._tasks.values() for text in t.prompts + t.negatives))

  def _without_label(self) -> list[str]:
    """Tasks that the data set has no labels of; says so."""
    have = _columns(self._context.studies)
    missing = [t for t, asked in self._tasks.items() if asked.label not in have]
    labels = ", ".join(dict.fromkeys(self._tasks[t].label for t in missing))
    if len(missing) == len(self._tasks):
      raise UserError(
          f"The data set in {self._context.config.data.root} has none of the "
          f"labels of {self._context.name}: {labels}. It has "
          f"{some(have) or 'no labels'}; name these as labels of tasks, "
          "or leave the evaluator out of config.eval.evaluators.")
    if missing and multihost.is_main():
      print(f"{self._context.name}: the data set has no label {labels}; "
            f"{', '.join(missing)} cannot be measured and left out of means.")
    return missing

  def collect(self) -> Table:
    """Scores of every study, and labels, -1 where there are none."""
    studies, settings = self._context.studies, self._context.config.eval
    if self._context.spec and settings.threshold_split:
      other = self._context.other(settings.threshold_split)
      self._valid = self._thresholds(self._scores(other) | self._labels(other))
    return {"study_id": studies.study_id, "patient_id": studies.patient_id,
            **self._scores(studies), **self._labels(studies)}

  def _scores(self, studies: Studies) -> Table:
    """A column per task, or per prompt of a task where the best one counts."""
    scores = self._context.scorer.scores(studies, self.prompts)
    number = {text: i for i, text in enumerate(self.prompts)}
    pick = lambda x, texts: x[:, [number[t] for t in texts]].astype(float)
    out = {}
    for kind, x in (("tcsim", scores.tcsim), ("global", scores.cosine)):
      for task, asked in self._tasks.items():
        each = pick(x, asked.prompts)                     # [n, prompts]
        if self._pair:
          margin = each - pick(x, asked.negatives)
          each = 1 / (1 + np.exp(-self._context.scorer.logit_scale * margin))
        if self._best:
          out |= {f"{kind}/{task}#{k}": s for k, s in enumerate(each.T)}
        else:
          out[f"{kind}/{task}"] = each.mean(1)
    return out

  def _labels(self, studies: Studies) -> Table:
    have = _columns(studies)
    none = np.full(len(studies.labels), -1, np.int8)
    return {f"label/{task}": none if asked.label not in have
            else studies.labels[:, have.index(asked.label)]
            for task, asked in self._tasks.items()}

  def _thresholds(self, table: Table) -> dict[str, float]:
    """Of every column that calls are made by, NaN where a class is missing."""
    spec = self._context.spec
    return {column: _threshold(
        table[column], table[f"label/{task}"], spec.threshold_rule,
        spec.threshold_points)
            for kind in _CALLED_BY[spec.threshold_rule]
            for task, asked in self._tasks.items()
            for column in _family(kind, task, len(asked.prompts), self._best)}

  def meta(self) -> dict[str, Any]:
    """The tasks, and how they are judged; thresholds of another split."""
    spec, settings = self._context.spec, self._context.config.eval
    thresholds = None if self._valid is None else {
        k: None if np.isnan(v) else v for k, v in self._valid.items()}
    return {
        "tasks": {task: {"label": asked.label, "prompts": list(asked.prompts),
                         "negatives": list(asked.negatives)}
                  for task, asked in self._tasks.items()},
        "without_label": self._missing,
        "pair": self._pair, "best": self._best,
        "logit_scale": self._context.scorer.logit_scale if self._pair else None,
        "min_positives": (spec or settings).min_positives,
        "threshold_points": spec.threshold_points if spec else None,
        "threshold_rule": spec.threshold_rule if spec else "roc",
        "threshold_split": settings.threshold_split if thresholds else None,
        "valid_thresholds": thresholds,
    }

  def examples(self, table: Table) -> list[Example]:
    """The surest hits, the worst misses and the worst false alarms."""
    meta = self.meta()
    columns, labels = _chosen("tcsim", table, meta), _label_table(table, meta)
    scores = np.stack([table[c] for c in columns], 1)
    # A task is drawn by its first prompt, or by the one that counts.
    texts = [asked.prompts[int(c.rpartition("#")[2]) if self._best else 0]
             for c, asked in zip(columns, self._tasks.values())]
    return [Example(row=x.row, text=texts[x.task], caption=x.sentence(
        list(self._tasks)[x.task]), group=x.group,
                    score=float(scores[x.row, x.task]))
            for x in extremes.find(scores, labels)]


def measure(name: str, table: Table, meta: dict[str, Any]) -> measures.Measures:
  """AUCs, and for a prompt set the calls at every kind of threshold."""
  labels, tasks = _label_table(table, meta), list(meta["tasks"])
  columns = {kind: _chosen(kind, table, meta) for kind in ("tcsim", "global")}
  scores = {kind: np.stack([table[c] for c in cs], 1)
            for kind, cs in columns.items()}
  parts = [_aucs(name, tasks, scores, labels, meta)]
  if meta["best"]:
    average = {kind: np.stack(
        [np.mean([table[c] for c in family], 0)
         for family in _families(kind, meta)], 1) for kind in scores}
    parts.append(_aucs(f"{name}/average", tasks, average, labels, meta))
  if meta["threshold_points"]:
    parts += [part for kind in _CALLED_BY[_rule(meta)]
              for part in _judged(name + _INFIX[kind], tasks, columns[kind],
                                  scores[kind], labels, meta)]
  return measures.join(parts)


def _judged(name, tasks, columns, scores, labels, meta
            ) -> list[measures.Measures]:
  """The calls by one kind of score, at every kind of threshold."""
  rule, points = _rule(meta), meta["threshold_points"]
  thresholds = {"test": [_threshold(s, l, rule, points)
                         for s, l in zip(scores.T, labels.T)]}
  if meta["valid_thresholds"] is not None:
    thresholds["valid"] = [meta["valid_thresholds"][c] for c in columns]
  if meta["pair"]:
    thresholds["half"] = [0.5] * len(tasks)
  return [_calls(name, where, tasks, scores, labels, np.array(values, float),
                 meta)
          for where, values in thresholds.items()]


def _aucs(name, tasks, scores, labels, meta) -> measures.Measures:
  enough = _enough(labels, meta)
  each = resampled.aucs(scores["tcsim"], labels)
  overall = resampled.aucs(scores["global"][:, enough], labels[:, enough])

  def statistic(counts):
    local = each(counts)
    return np.column_stack([resampled.nanmean(local[:, enough]),
                            resampled.nanmean(overall(counts)), local])

  positives, dropped = (labels == 1).sum(0), (labels < 0).sum(0)
  both = lambda number: [int(number)] * 2
  return measures.Measures(
      names=(f"{name}/mean_tcsim", f"{name}/mean_global",
             *(f"{name}/tcsim/{task}" for task in tasks)),
      statistic=statistic,
      support=(*both(enough.sum()), *positives.tolist()),
      unlabeled=(*both(dropped[enough].sum()), *dropped.tolist()))


def _calls(name, where, tasks, scores, labels, thresholds, meta
           ) -> measures.Measures:
  averaged = _enough(labels, meta) & ~np.isnan(thresholds)
  wanted = resampled.CALLS_WITH_F1 if _rule(meta) == "best_f1" else (
      resampled.CALLS)
  each = resampled.calls(scores, labels, thresholds, wanted)
  calls = [f"{call}@{where}" for call in wanted]

  def statistic(counts):
    values = each(counts)
    by_task = values.reshape(len(values), len(calls), len(tasks))
    return np.concatenate(
        [resampled.nanmean(by_task[..., averaged]), values], axis=1)

  positives, dropped = (labels == 1).sum(0), (labels < 0).sum(0)
  fixed = {} if where == "half" else {
      f"{name}/threshold@{where}/{task}": float(value)
      for task, value in zip(tasks, thresholds)}
  per = len(calls)
  return measures.Measures(
      names=(*(f"{name}/mean_{call}" for call in calls),
             *(f"{name}/{call}/{task}" for call in calls for task in tasks)),
      statistic=statistic,
      support=(*[int(averaged.sum())] * per, *positives.tolist() * per),
      unlabeled=(*[int(dropped[averaged].sum())] * per,
                 *dropped.tolist() * per),
      fixed=fixed)


def _enough(labels: np.ndarray, meta: dict[str, Any]) -> np.ndarray:
  """[T] tasks that are averaged: positives enough, and one negative."""
  return (((labels == 1).sum(0) >= meta["min_positives"])
          & (labels == 0).any(0))


def _chosen(kind: str, table: Table, meta: dict[str, Any]) -> list[str]:
  """The column of every task: of several, that with the best AUC."""
  auc = lambda column, task: np.nan_to_num(
      metrics.roc_auc(table[column], table[f"label/{task}"]))
  return [max(family, key=lambda c: auc(c, task))   # the first of equals
          for task, family in zip(meta["tasks"], _families(kind, meta))]


def _families(kind: str, meta: dict[str, Any]) -> list[list[str]]:
  return [_family(kind, task, len(asked["prompts"]), meta["best"])
          for task, asked in meta["tasks"].items()]


def _family(kind: str, task: str, size: int, best: bool) -> list[str]:
  """Names of the columns of one task."""
  return ([f"{kind}/{task}#{k}" for k in range(size)] if best
          else [f"{kind}/{task}"])


def _label_table(table: Table, meta: dict[str, Any]) -> np.ndarray:
  return np.stack([table[f"label/{task}"] for task in meta["tasks"]], 1)


def _columns(studies: Studies) -> list[str]:
  """What the columns of `labels` are called in the archive."""
  return [f["label"] for f in studies.split.findings.values()]


def _rule(meta: dict[str, Any]) -> str:
  """How thresholds are chosen; runs of earlier versions knew one rule."""
  return meta.get("threshold_rule", "roc")


def _threshold(scores, labels, rule: str, points: int) -> float:
  """By the rule of a prompt set; see `metrics`."""
  if rule == "best_f1":
    return metrics.f1_threshold(scores, labels)
  return metrics.roc_threshold(scores, labels, np.linspace(-1, 1, points))

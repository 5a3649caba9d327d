"""Prompt sets: what a benchmark asks, as a data file.

A set is `prompt_sets/<name>.json`, an object with

    description, source   for people: what it is, where the wording comes from
    version               a text, changed whenever a number could change
    evaluator             the module of `evaluators/` that measures it
    tasks                 { "<task>": {"label": "<column>", "prompts": ["...",
                          ...], "negatives": ["...", ...]} }; negatives only
                          where the kind is "pair"
    kind                  "single" (default): the score of a task is that of its
                          prompts; "pair": negative n belongs to prompt n, and
                          the score is the softmax over the two
    combine               several prompts of a task: "mean" (default) of their
                          scores; "best": the prompt with the best result counts
                          (chosen on the test labels); "vector": the normalised
                          mean of the normalised embeddings is the query
    threshold_points      of the published search for a threshold (1000)
    threshold_rule        "roc" (default): nearest to the corner of the ROC;
                          "best_f1": of the best F1, also by the global vector
    min_positives         tasks with fewer are not averaged (1)
    options               whatever else its evaluator reads, see below

A column is the "label" of an entry of the data set's findings.json; two tasks
may share one. Options of `classify`, which has no tasks of the kind above:

    classes     { "<class>": {"label": "<column>", "prompts": ["...", ...]} }
    metrics     names of the numbers that are wanted
    tasks       optional: { "<task>": {"classes": ["<class>", ...], "positive":
                "<class>"} }, each among some of the classes; positive only
                where one of two is the finding; without it, one task of all
    subset      optional: "ground_truth" = only studies that ground_truth.json
                of the data set lists, and those of the first class

of `segmentation`:

    text        what is looked for
    series      regular expression that is found, in any case, in the name of
                the series whose tokens count
    top_tokens  number of the most attended tokens that are the answer

and of `retrieval`:

    ranks_at     k of "any of one's own is among the first k"
    complete_at  optional: k of "all of one's own are among the first k"
    two_stage    optional: how many candidates the global vectors choose for
                 TCSim, in a second measurement
    equal_texts  optional: "match" = every study that has a text is right, and
                 not only ("own") the one that the query came from

and of `organ_zeroshot`, whose tasks also have an "organ", a name of the data
set's organs.json, and whose kind is "pair":

    roi   optional: voxels D, H, W of an organ's window, those of the model
          unless given

A user's own tasks are the path of a file that ends in .json: a set as above, or
the prospective layout { "<task>": {"prompts": ["...", ...], "label":
"<column>"} }, measured by `zeroshot_auc` with the best of the prompts.
"""

from collections.abc import Collection
import dataclasses
import difflib
import hashlib
import json
import pathlib
from typing import Any, Literal, get_args

from itemclip_jax.errors import UserError

FOLDER = pathlib.Path(__file__).with_name("prompt_sets")

Kind = Literal["single", "pair"]
Combine = Literal["mean", "best", "vector"]
Rule = Literal["roc", "best_f1"]

# Evaluator -> (options it must have, options it may have).
_OPTIONS = {
    "zeroshot_auc": (set(), set()),
    "classify": ({"classes", "metrics"}, {"tasks", "subset"}),
    "segmentation": ({"text", "series", "top_tokens"}, set()),
    "retrieval": ({"ranks_at"}, {"complete_at", "two_stage", "equal_texts"}),
    "organ_zeroshot": (set(), {"roi"}),
}
_WITH_TASKS = ("zeroshot_auc", "organ_zeroshot")
_REQUIRED = {"description", "source", "version", "evaluator"}
_OPTIONAL = {"tasks", "kind", "combine", "threshold_points", "threshold_rule",
             "min_positives", "options"}
_NUMBERS = {"threshold_points", "min_positives", "top_tokens", "two_stage"}
_LISTS_OF_NUMBERS = {"ranks_at", "complete_at", "roi"}
_OBJECTS = {"tasks", "options", "classes"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """One question that is answered by one label column.

  Attributes:
    label: the column.
    prompts: texts that say yes.
    negatives: texts that say no, one for each prompt, or ().
    organ: whose tokens answer, where an evaluator looks at organs.
  """
  label: str
  prompts: tuple[str, ...]
  negatives: tuple[str, ...] = ()
  organ: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptSet:
  """One file; its fields are explained in the head of this module.

  Attributes:
    name: the file's name without its ending.
    sha256: of the file's bytes.
  """
  name: str
  sha256: str
  description: str
  source: str
  version: str
  evaluator: str
  tasks: dict[str, Task] = dataclasses.field(default_factory=dict)
  kind: Kind = "single"
  combine: Combine = "mean"
  threshold_points: int = 1000
  threshold_rule: Rule = "roc"
  min_positives: int = 1
  options: dict[str, Any] = dataclasses.field(default_factory=dict)


def names() -> tuple[str, ...]:
  """The sets that come with the code."""
  return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def load(name: str) -> PromptSet:
  """Reads a set by its name, or a file by its path (ending in .json).

  Raises:
    UserError: there is no such set, or its file is not one; names file and key.
  """
  path = pathlib.Path(name if name.endswith(".json") else FOLDER / f"{name}"
                      ".json")
  if not path.is_file():
    raise UserError(_unknown(name))
  content = path.read_bytes()
  raw = _parse(path, content)
  if not isinstance(raw.get("evaluator"), str):
    raw = {"description": "Tasks of a user.", "source": path.name,
           "version": "1", "evaluator": "zeroshot_auc", "combine": "best",
           "tasks": raw}
  _check(path, raw)
  own = {"organ"} if raw["evaluator"] == "organ_zeroshot" else set()
  tasks = {task: _task(path, f"tasks/{task}", entry, raw.get("kind"), own)
           for task, entry in raw.get("tasks", {}).items()}
  return PromptSet(**raw | {"tasks": tasks}, name=path.stem,
                   sha256=hashlib.sha256(content).hexdigest())


def _unknown(name: str) -> str:
  if name.endswith(".json"):
    return f"There is no file {name}; give the path of your tasks."
  close = difflib.get_close_matches(name, names(), n=1)
  hint = f"did you mean {close[0]!r}" if close else f"have {', '.join(names())}"
  return (f"There is no prompt set {name!r}; {hint}? A file of your own is "
          "given by its path, which ends in .json.")


def _parse(path: pathlib.Path, content: bytes) -> dict[str, Any]:
  """The object in the file; a key that stands twice is an error."""
  def unique(pairs):
    for i, (key, _) in enumerate(pairs):
      if key in (k for k, _ in pairs[:i]):
        raise UserError(f"{path} has the key {key!r} twice; rename or remove "
                        "one.")
    return dict(pairs)

  try:
    raw = json.loads(content, object_pairs_hook=unique)
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise UserError(f"{path} is no JSON ({error}); mend it.") from error
  if not isinstance(raw, dict) or not raw:
    raise UserError(f"{path} holds no tasks; want {{\"<task>\": {{\"prompts\": "
                    "[\"...\"], \"label\": \"<column>\"}}.")
  return raw


def _check(path: pathlib.Path, raw: dict[str, Any]):
  """Raises UserError where a key is missing, unknown or of the wrong kind."""
  _keys(path, "", raw, _REQUIRED, _OPTIONAL)
  _kinds(path, "", raw)
  for key, allowed in (("kind", Kind), ("combine", Combine),
                       ("threshold_rule", Rule)):
    if raw.get(key, get_args(allowed)[0]) not in get_args(allowed):
      raise UserError(f"{path}: {key!r} is {raw[key]!r}; want one of "
                      f"{', '.join(get_args(allowed))}.")
  evaluator, options = raw["evaluator"], raw.get("options", {})
  if evaluator not in _OPTIONS:
    raise UserError(f"{path}: no evaluator {evaluator!r} reads prompt sets; "
                    f"want one of {', '.join(_OPTIONS)}.")
  _keys(path, "options/", options, *_OPTIONS[evaluator])
  if (evaluator in _WITH_TASKS) != bool(raw.get("tasks")):
    raise UserError(f"{path}: 'tasks' has {len(raw.get('tasks', {}))} entries; "
                    f"{' and '.join(_WITH_TASKS)} want one at least, others "
                    "none.")
  if evaluator == "classify":
    _check_classes(path, options)
  _kinds(path, "options/", options)


def _check_classes(path: pathlib.Path, options: dict[str, Any]):
  for key in ("classes", "tasks"):
    _want(path, f"options/{key}", options.get(key, {}), dict)
  for name, entry in options["classes"].items():
    _task(path, f"options/classes/{name}", entry, "single")
  for name, entry in options.get("tasks", {}).items():
    where = f"options/tasks/{name}"
    _want(path, where, entry, dict)
    _keys(path, f"{where}/", entry, {"classes"}, {"positive"})
    _texts(path, f"{where}/classes", entry["classes"])
    for wanted in (*entry["classes"], entry.get("positive",
                                                entry["classes"][0])):
      if wanted not in options["classes"]:
        raise UserError(f"{path}: {where!r} names {wanted!r}, which is none of "
                        "its classes; mend the name.")


def _task(path: pathlib.Path, where: str, entry: Any, kind,
          own: Collection[str] = ()) -> Task:
  """Checks and freezes one task; `own`: further texts that it must have."""
  _want(path, where, entry, dict)
  sides = ("prompts", "negatives") if kind == "pair" else ("prompts",)
  _keys(path, f"{where}/", entry, {"label", *own, *sides}, set())
  for key in ("label", *own):
    _want(path, f"{where}/{key}", entry[key], str)
  texts = {side: _texts(path, f"{where}/{side}", entry[side]) for side in sides}
  if len({len(t) for t in texts.values()}) > 1:
    raise UserError(f"{path}: {where!r} has {len(texts['prompts'])} prompts "
                    f"and {len(texts['negatives'])} negatives; want as many.")
  return Task(label=entry["label"], **texts, **{k: entry[k] for k in own})


def _texts(path: pathlib.Path, where: str, texts: Any) -> tuple[str, ...]:
  if not isinstance(texts, list) or not texts or not all(
      isinstance(t, str) and t.strip() for t in texts):
    raise UserError(f"{path}: {where!r} is {texts!r}; want a list of texts, "
                    "none empty.")
  return tuple(texts)


def _keys(path, where: str, have: dict, required: set, optional: set):
  if missing := sorted(required - have.keys()):
    raise UserError(f"{path}: '{where}{missing[0]}' is missing; add it.")
  if unknown := sorted(have.keys() - required - optional):
    raise UserError(
        f"{path}: '{where}{unknown[0]}' is unknown; want "
        f"{', '.join(sorted(required | optional)) or 'nothing here'}.")


def _kinds(path, where: str, have: dict):
  """Checks the values that a table of kinds can tell."""
  for key, value in have.items():
    if key in _NUMBERS:
      _want(path, where + key, value, int)
    elif key in _LISTS_OF_NUMBERS:
      _want(path, where + key, value, list)
      for number in value:
        _want(path, where + key, number, int)
    elif key in _OBJECTS:
      _want(path, where + key, value, dict)
    elif key == "metrics":
      _texts(path, where + key, value)
    else:
      _want(path, where + key, value, str)


def _want(path, where: str, value: Any, kind: type):
  """Checks the type; texts and lists are not empty, numbers count from 1."""
  names_of = {str: "a text", dict: "an object", list: "a list of whole numbers",
              int: "a whole number from 1"}
  empty = kind is not dict and not (
      value.strip() if isinstance(value, str) else value)
  if type(value) is not kind or empty or (kind is int and value < 1):
    raise UserError(
        f"{path}: {where!r} is {value!r}; want {names_of[kind]}.")

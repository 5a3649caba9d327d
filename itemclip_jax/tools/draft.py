"""Drafts reports from what an image retrieves: eCLIP's report generation.

For each study the items of other patients' reports are ranked by the cosine
with its global vector (`drafting.snippets`), and a few of them are put before a
language model with two examples (`drafting.prompt`). For research: a draft is
no report, and every line and page says so.

    python -m itemclip_jax.tools.draft --model=runs/demo \\
        --data=runs/demo/data --out=runs/draft
    python -m itemclip_jax.tools.draft --model=runs/demo \\
        --data=runs/demo/data --out=runs/draft --backend=chat \\
        --base_url=http://localhost:8000/v1 --chat_model=NAME

In the folder --out:

    drafts.jsonl       a line a study: study_id, patient_id, note, snippets
                       ({text, cosine}, best first), messages (the prompt),
                       draft (null without a language model or an answer),
                       trouble ("", why there is no answer, or "cut off"),
                       joined_snippets and report (its own items)
    results.json       "draft/bleu2" ..., "joined_snippets/bleu2" ...: the same
                       of the retrieved findings alone, which need no language
                       model; `drafting.text_metrics` says what they are
    predictions/draft.csv   the same study by study
    index.html         twelve studies for people
    answers.sqlite, features/   what was answered and encoded; a run that is
                       given again goes on from there. They may be deleted.

Reference: Kumar and Marttinen 2024, https://arxiv.org/abs/2403.10153, section
4.4. Its language model, decoding (4 beams with sampling) and two of its metrics
are not repeated here.
"""

import contextlib
import dataclasses
import json
import pathlib
from typing import Any, get_args

from absl import flags
from absl import logging
import numpy as np

from data_pipelines.errors import PrepareError
from data_pipelines.itemize.chat.options import Options
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import measures, predictions
from itemclip_jax.tools import command
from itemclip_jax.tools.drafting import ask, page, prompt, text_metrics
from itemclip_jax.tools.drafting.subject import Choice, Plan, Subject
from itemclip_jax.train.writer import write_json

# Flag -> field of chat.options.Options.
_CHAT = {"base_url": "base_url", "chat_model": "model",
         "api_key_env": "api_key_env", "allow_host": "allow_hosts",
         "temperature": "temperature", "concurrency": "concurrency",
         "max_output_tokens": "max_output_tokens", "timeout": "timeout",
         "price_in": "price_in", "price_out": "price_out",
         "max_cost": "max_cost"}


def draft(model: pathlib.Path, data: pathlib.Path, out: pathlib.Path,
          plan: Plan = Plan(), *, options: Options | None = None,
          batch: int = 32, num_resamples: int = 1000) -> dict[str, Any]:
  """Does what the header says; returns results.json.

  Args:
    model: run directory or released model.
    data: the built set.
    out: folder; made where there is none.
    plan: what is retrieved and asked.
    options: of the language model; None = nothing is asked.
    batch: studies encoded at a time.
    num_resamples: of the patients, for intervals.

  Raises:
    UserError: model, data or splits do not fit, nothing can be retrieved, or
      the chat server cannot be used.
  """
  text_metrics.require()
  out.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:
    drafter = None
    try:
      if options is not None:   # a wrong address is told before the work
        drafter = stack.enter_context(contextlib.closing(
            ask.Drafter(options, out)))
      subject = Subject(model, data, out, plan, batch)
      lines = subject.lines()
      if drafter is not None:
        words = prompt.template()
        found = drafter.drafts(words, [line["messages"] for line in lines])
        lines = [line | {"draft": d.text, "trouble": d.trouble}
                 for line, d in zip(lines, found)]
        _tell(found, drafter)
    except PrepareError as error:
      raise UserError(str(error)) from error
  about = subject.about(options)
  names = ("draft", "joined_snippets") if options else ("joined_snippets",)
  results = _measured(out, lines, names, plan, num_resamples)
  _write(out, lines, results, about)
  page.write(out / "index.html", subject.shown(lines), results, about)
  return {k: r.to_json() for k, r in results.items()} | {"about": about}


def _measured(out: pathlib.Path, lines: list[dict[str, Any]],
              names: tuple[str, ...], plan: Plan, num_resamples: int
              ) -> dict[str, measures.Result]:
  """Compares the texts `names` of the lines with the reports, and writes
  predictions/draft.csv."""
  reports = [line["report"] for line in lines]
  table = {name: np.array([line[name] for line in lines])
           for name in ("study_id", "patient_id")}
  parts, columns = [], {}
  for name in names:
    texts = [line[name] for line in lines]
    vectors = text_metrics.sentence_vectors(
        [*texts, *reports], plan.sentence_encoder, out / "sentences")
    measured = text_metrics.columns(texts, reports, vectors=vectors)
    parts.append(text_metrics.measure(name, measured))
    columns |= {f"{name}_{k}": v for k, v in measured.items()}
  predictions.write(out / "predictions" / "draft.csv", table | columns)
  return measures.results(measures.join(parts), table,
                          num_resamples=num_resamples, seed=plan.seed)


def _write(out: pathlib.Path, lines: list[dict[str, Any]],
           results: dict[str, measures.Result], about: dict[str, Any]):
  partial = out / "drafts.jsonl.partial"
  partial.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n"
                             for line in lines), encoding="utf-8")
  partial.replace(out / "drafts.jsonl")
  write_json(out / "results.json", {
      **{k: r.to_json() for k, r in results.items()}, "about": about})


def _tell(found: list[ask.Draft], drafter: ask.Drafter):
  missing = sum(d.text is None for d in found)
  print(f"{len(found) - missing} drafts, {missing} questions without an answer "
        f"(run again to ask them again); {drafter.client.calls} requests, cost "
        f"{drafter.budget.spent:.4g}.")


def chat_options(given: dict[str, Any], backend: str) -> Options | None:
  """The chat server of the flags that were given; None for backend "none".

  Raises:
    UserError: flags are missing, or have nothing to say.
  """
  if backend == "none":
    if given:
      raise UserError(f"--{min(given)} is of the chat back-end; add "
                      "--backend=chat, or leave it out.")
    return None
  if missing := [n for n in ("base_url", "chat_model") if n not in given]:
    raise UserError(f"--{missing[0]} is missing; --backend=chat wants the "
                    "address of a server and its name of a model.")
  named = {_CHAT[name]: value for name, value in given.items()}
  named.setdefault("max_output_tokens", prompt.template().output_tokens)
  named["allow_hosts"] = tuple(named.get("allow_hosts", ()))
  try:
    return Options(**named, json_mode=False)
  except PrepareError as error:
    raise UserError(str(error)) from error


def main(argv):
  del argv
  logging.set_verbosity(logging.ERROR)  # Orbax warns of reading only
  given, out = flags.FLAGS, pathlib.Path(flags.FLAGS.out)
  plan = Plan(**{f.name: given[f.name].value for f in dataclasses.fields(Plan)})
  options = chat_options({name: given[name].value for name in _CHAT
                          if given[name].value is not None}, given.backend)
  results = draft(pathlib.Path(given.model), pathlib.Path(given.data), out,
                  plan, options=options, batch=given.batch,
                  num_resamples=given.resamples)
  for name, entry in results.items():
    if name != "about":
      print(f"{name:40s} " + ("undefined" if entry["value"] is None
                              else f"{entry['value']:.3f}"))
  print(f"Page: {out / 'index.html'}; all studies: {out / 'drafts.jsonl'}")


def _define_flags():
  default = {f.name: f.default for f in dataclasses.fields(Plan)}
  flags.DEFINE_string("model", None, "Run directory, released or converted "
                      "model.", required=True)
  flags.DEFINE_string("data", None, "Built data set.", required=True)
  flags.DEFINE_string("out", None, "Folder of the results.", required=True)
  flags.DEFINE_string("split", default["split"], "Studies to draft for.")
  flags.DEFINE_string("index_split", default["index_split"],
                      "Whose items are retrieved.")
  flags.DEFINE_integer("neighbours", default["neighbours"],
                       "Best texts that clusters are made of.")
  flags.DEFINE_integer("snippets", default["snippets"], "Of a prompt.")
  flags.DEFINE_enum("choose", default["choose"], get_args(Choice),
                    "The best neighbours, or one of each cluster of them.")
  flags.DEFINE_string("sentence_encoder", default["sentence_encoder"],
                      "Local folder of one: its vectors make the clusters, and "
                      "compare drafts with reports.")
  flags.DEFINE_enum("system_turn", default["system_turn"],
                    get_args(prompt.SystemTurn), "Where the instructions "
                    "stand; first_user for models without a system turn.")
  flags.DEFINE_integer("seed", default["seed"], "Of examples and resamples.")
  flags.DEFINE_integer("batch", 32, "Studies encoded at a time.",
                       lower_bound=1)
  flags.DEFINE_integer("resamples", 1000, "Of the patients, for intervals.",
                       lower_bound=1)
  _define_chat()


def _define_chat():
  flags.DEFINE_enum("backend", "none", ("none", "chat"), "Who writes drafts; "
                    "none: prompts and retrieved findings only.")
  flags.DEFINE_string("base_url", None, "Chat: what stands before "
                      "/chat/completions, such as http://localhost:8000/v1.")
  flags.DEFINE_string("chat_model", None, "Chat: as the server names it.")
  flags.DEFINE_string("api_key_env", None, "Chat: variable that holds the key.")
  flags.DEFINE_multi_string("allow_host", None, "Chat: a host outside of this "
                            "house that reports may be sent to.")
  flags.DEFINE_float("temperature", None, "Chat: 0 unless given.")
  flags.DEFINE_integer("max_output_tokens", None, "Chat: of a draft, 200 "
                       "unless given.")
  flags.DEFINE_integer("concurrency", None, "Chat: requests at once, 4 unless "
                       "given.")
  flags.DEFINE_float("timeout", None, "Chat: seconds, 60 unless given.")
  for name, what in (("price_in", "a million tokens sent"),
                     ("price_out", "a million tokens received"),
                     ("max_cost", "the run at most, in that currency")):
    flags.DEFINE_float(name, None, f"Chat: price of {what}.")


if __name__ == "__main__":
  _define_flags()
  command.run(main)

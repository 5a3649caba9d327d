"""Reports and captions become items: lists of findings, one statement each.

A report a line in, a list of items a line out, offline and by rules:

    python -m data_pipelines.itemize --recipe=ctrate_abnormal --in=x.jsonl \\
        --out=y.jsonl

    x.jsonl    {"id": "a1", "sections": {"findings": "...", "impression":
               "...", "text": "..."}} or {"id": "a1", "captions": ["...", ...]}
    y.jsonl    {"id": "a1", ..., "items": [{"text": "...", "sources": [...]}],
               "normal": false, "dropped": [...], "warnings": [...], ...}

Recipes:

    ctrate_abnormal   the abnormal sentences of a report, unchanged
    summary_list      the distinct abnormal findings of a report, short
    verify2           what at least two captions of a picture say
    dedup             the captions of a picture without their duplicates
    anatomy           what a report says of each anatomy
    triplet           severity, location and category of each finding

By a language model on this machine or in this house (an address outside is
refused unless --allow_host names it), after a look at what it would cost:

    python -m data_pipelines.itemize --recipe=summary_list --in=x.jsonl \\
        --out=y.jsonl --backend=chat --base_url=http://localhost:8000/v1 \\
        --model=NAME --price_in=0.15 --price_out=0.6 --dry_run

Is it fit for training? One page with figures, a sample to read, and the
agreement of two back-ends:

    python -m data_pipelines.itemize audit y.jsonl --against=z.jsonl \\
        --out=audit.html

As training files, which data_pipelines.prepare reads:

    python -m data_pipelines.itemize export y.jsonl --to=itemizedclip \\
        --out=itemized.json
    python -m data_pipelines.itemize export y.jsonl --to=itemizedclip \\
        --layout=studies --into=mri/train.json --out=mri/train.json
    python -m data_pipelines.itemize export y.jsonl --to=fvlm|medfilip \\
        --out=FILE

A line that is no record, or an id that comes twice, is refused before anything
is done. An empty report gives no items and is not normal; so does one in
another language: see "warnings". A killed run goes on when the same command is
given once more. `audit --help` and `export --help` tell their flags.

Exit code: 0, 1 where a limit is exceeded (the results are written all the
same), 2 where the command or its files cannot be used.
"""

import dataclasses
import pathlib
import sys

from absl import app
from absl import flags

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import export as export_lib
from data_pipelines.itemize import options
from data_pipelines.itemize import recipes
from data_pipelines.itemize import run as run_lib
from data_pipelines.itemize import tally
from data_pipelines.itemize.chat import backend
from data_pipelines.itemize.chat import cache
from data_pipelines.itemize.chat import hosts
from data_pipelines.itemize.chat.options import Options

BACKENDS = ("rules", "chat")
COMMANDS = ("audit", "export")
FLAGS = flags.FLAGS
MAX_FAILURES = 5   # kinds of them that are told
# Fields of chat.options.Options under their own names.
CHAT_FLAGS = tuple(f.name for f in dataclasses.fields(Options)
                   if f.name != "allow_hosts")


def run() -> int:
  """The results of a file; returns the exit code."""
  source, out = _path("in"), _path("out")
  recipe = recipes.get(options.required("recipe"))
  if FLAGS.backend not in BACKENDS:
    raise PrepareError(f"--backend={FLAGS.backend} is none of "
                       f"{', '.join(BACKENDS)}.")
  plan = run_lib.Plan(recipe.name, FLAGS.lexicon, FLAGS.max_items)
  if FLAGS.backend == "rules":
    _refuse_chat_flags()
    numbers = run_lib.run(source, out, plan, num_workers=FLAGS.workers,
                          limit=FLAGS.limit)
  else:
    with _chat(plan, out) as chat:
      _tell_cost(source, plan, chat)
      if FLAGS.dry_run:
        return 0
      numbers = run_lib.run(source, out, plan, chat=chat,
                            num_workers=chat.concurrency, limit=FLAGS.limit)
      for why, times in chat.failures.most_common(MAX_FAILURES):
        print(f"Made by rules, {times} records: {why}.")
      print(f"{chat.calls} requests, cost {chat.budget.spent:.4g}.")
  _print(numbers, recipe)
  print(f"Wrote {out}. To look at it: python -m data_pipelines.itemize audit "
        f"{out}")
  return _verdict(tally.faults(
      numbers, max_unsupported=FLAGS.max_unsupported,
      max_parse_failures=FLAGS.max_parse_failures))


def _refuse_chat_flags():
  for name in (*CHAT_FLAGS, "allow_host", "cache", "dry_run"):
    if FLAGS[name].present:
      raise PrepareError(f"--{name} is of the chat back-end; add "
                         "--backend=chat, or leave it out.")


def _chat(plan: run_lib.Plan, out: pathlib.Path) -> backend.Chat:
  given = {name: FLAGS[name].value for name in CHAT_FLAGS
           if FLAGS[name].value is not None}
  for name in ("base_url", "model"):
    given[name] = options.required(name)
  allowed = tuple(FLAGS.allow_host or ())
  hosts.check(given["base_url"], allowed)   # before a file is made
  path = pathlib.Path(FLAGS.cache or f"{out}.answers")
  leaves_none = FLAGS.dry_run and not path.exists()
  return backend.Chat(
      Options(allow_hosts=allowed, **given),
      plan.rules(), cache=cache.Cache(":memory:" if leaves_none else path))


def _tell_cost(source: pathlib.Path, plan: run_lib.Plan, chat: backend.Chat):
  """Before the first question, where it is asked for or limited.

  Raises:
    PrepareError: the run would cost more than --max_cost.
  """
  if not FLAGS.dry_run and FLAGS.max_cost is None:
    return
  wanted = run_lib.estimate(source, plan, chat, limit=FLAGS.limit)
  print(f"{wanted.calls} questions about {wanted.records} records: about "
        f"{wanted.tokens_in} tokens sent and {wanted.tokens_out} received, "
        f"cost about {chat.budget.expected(wanted):.4g}.")
  chat.budget.check(wanted)


def audit(path: pathlib.Path) -> int:
  # Here, because only the page needs matplotlib.
  from data_pipelines.itemize import audit as audit_lib
  out = pathlib.Path(FLAGS.out or f"{path}.html")
  report = audit_lib.audit(
      path, out, against=FLAGS.against and pathlib.Path(FLAGS.against),
      source=FLAGS["in"].value and pathlib.Path(FLAGS["in"].value),
      max_unsupported=FLAGS.max_unsupported,
      max_parse_failures=FLAGS.max_parse_failures, num_drawn=FLAGS.draw,
      seed=FLAGS.seed)
  _print(report, recipes.get(report["recipe"]))
  if report["agreement"]:
    kappa = report["agreement"]["kappa"]
    print(f"Agreement on {report['agreement']['sentences']} sentences: "
          f"kappa {'undefined' if kappa is None else f'{kappa:.3f}'}.")
  print(f"Wrote {out}; it quotes reports and must stay in the house.")
  return _verdict(report["faults"])


def export(path: pathlib.Path) -> int:
  print(export_lib.export(
      path, _path("out"), options.required("to"), layout=FLAGS.layout,
      into=FLAGS.into and pathlib.Path(FLAGS.into)))
  return 0


def _path(name: str) -> pathlib.Path:
  return pathlib.Path(options.required(name))


def _print(numbers: dict, recipe: recipes.Recipe):
  """One line of counts, one of what was dropped, one of warnings."""
  made = {"items": f"{numbers['items']} items, {numbers['normal']} normal",
          "anatomies": f"{numbers['anatomies']} anatomies",
          "triplets": f"{numbers['triplets']} triplets"}[recipe.gives]
  print(f"{numbers['records']} records, {made}.")
  for name in ("dropped", "warnings"):
    if numbers[name]:
      print(f"{name.capitalize()}: " + ", ".join(
          f"{n} {what}" for what, n in numbers[name].items()) + ".")


def _verdict(faults: list[str]) -> int:
  for fault in faults:
    print(f"data_pipelines.itemize: {fault}", file=sys.stderr)
  return 1 if faults else 0


def main(argv):
  command, operands = _split(argv)
  try:
    if command == "run":
      if operands:
        raise PrepareError(f"{operands[0]!r} belongs to no flag; commands are "
                           f"{' and '.join(COMMANDS)}, and come first. All "
                           "flags: --help.")
      sys.exit(run())
    if len(operands) != 1:
      raise PrepareError(f"{command} wants one file of results, e.g. python "
                         f"-m data_pipelines.itemize {command} y.jsonl. All "
                         "flags: --help.")
    path = pathlib.Path(operands[0])
    sys.exit(audit(path) if command == "audit" else export(path))
  except PrepareError as error:
    _fail(str(error))
  except OSError as error:
    if error.filename is None:
      raise
    _fail(f"{error.filename} cannot be used ({error.strerror}); mend that, or "
          "name another file.")


def _fail(sentence: str):
  print(f"data_pipelines.itemize: {sentence}", file=sys.stderr)
  sys.exit(2)


def _split(argv: list[str]) -> tuple[str, list[str]]:
  """The command, and what belongs to no flag."""
  if len(argv) > 1 and argv[1] in COMMANDS:
    return argv[1], argv[2:]
  return "run", argv[1:]


if __name__ == "__main__":
  {"audit": options.define_for_audit, "export": options.define_for_export,
   "run": options.define_for_run}[_split(sys.argv)[0]]()
  flags.adopt_module_key_flags(options)  # so that --help tells them
  app.define_help_flags()
  app.run(main, flags_parser=options.parse)

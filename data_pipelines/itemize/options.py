"""Flags of `python -m data_pipelines.itemize`, each command's own."""

import os
import sys

from absl import flags

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import engine
from data_pipelines.itemize import export
from data_pipelines.itemize import recipes

FLAGS = flags.FLAGS


def define_for_run():
  flags.DEFINE_string("recipe", None, f"One of {', '.join(recipes.RECIPES)}.")
  flags.DEFINE_string("in", None, "JSON Lines of records.")
  flags.DEFINE_string("out", None, "JSON Lines of results.")
  flags.DEFINE_string("backend", "rules", "rules: offline and deterministic; "
                      "chat: a language model.")
  flags.DEFINE_string("lexicon", "", "File of your own terms, see "
                      "data_pipelines/itemize/lexicon.py.")
  flags.DEFINE_integer("limit", None, "Only so many records.", lower_bound=1)
  flags.DEFINE_integer("max_items", engine.MAX_ITEMS, "Items of a record; what "
                       "is beyond is dropped.", lower_bound=1)
  flags.DEFINE_integer("workers", os.cpu_count(), "Processes of the rules; the "
                       "result is the same for any number.", lower_bound=1)
  _define_for_chat()
  _define_limits()


def _define_for_chat():
  """A flag for every field of chat.options.Options, and the cache's."""
  text, number = flags.DEFINE_string, flags.DEFINE_float
  text("base_url", None, "Chat: what stands before /chat/completions, e.g. "
       "http://localhost:8000/v1.")
  text("model", None, "Chat: as the server names it.")
  text("api_key_env", None, "Chat: the environment variable that holds the "
       "key.")
  flags.DEFINE_list("allow_host", None, "Chat: servers outside of this house "
                    "that reports may be sent to.")
  text("cache", None, "Chat: file of answers, which make a rerun free; "
       "<out>.answers unless given.")
  flags.DEFINE_integer("concurrency", None, "Chat: questions under way at "
                       "once, 4 unless given.")
  number("temperature", None, "Chat: 0 unless given.")
  flags.DEFINE_integer("max_output_tokens", None, "Chat: of one answer, 1024 "
                       "unless given.")
  flags.DEFINE_integer("seed", None, "Chat: of the model's draws, 0 unless "
                       "given.")
  flags.DEFINE_bool("json_mode", None, "Chat: ask for JSON, where the server "
                    "can.")
  number("requests_per_minute", None, "Chat: no limit unless given.")
  number("tokens_per_minute", None, "Chat: no limit unless given.")
  number("timeout", None, "Chat: seconds for an answer, 60 unless given.")
  number("price_in", None, "Chat: of a million tokens sent.")
  number("price_out", None, "Chat: of a million tokens received.")
  number("retry_rate", None, "Chat: share of questions that are expected to be "
         "asked again, 0.05 unless given.")
  number("max_cost", None, "Chat: ceiling of the run, in the currency of the "
         "prices.")
  flags.DEFINE_bool("dry_run", False, "Chat: tell tokens and cost, ask "
                    "nothing.")


def _define_limits():
  flags.DEFINE_float(
      "max_unsupported", 0.01, "Share of items that may be dropped because the "
      "source does not say them.", lower_bound=0, upper_bound=1)
  flags.DEFINE_float(
      "max_parse_failures", 0.005, "Share of records whose answers may be no "
      "use, so that rules make them.", lower_bound=0, upper_bound=1)


def define_for_audit():
  flags.DEFINE_string("against", None, "Results of another back-end on the "
                      "same input.")
  flags.DEFINE_string("in", None, "The input of the run; unless given, where "
                      "it was.")
  flags.DEFINE_string("out", None, "The page; <results>.html unless given.")
  flags.DEFINE_integer("draw", 50, "Records to read.", lower_bound=0)
  flags.DEFINE_integer("seed", 0, "Of the drawing.")
  _define_limits()


def define_for_export():
  flags.DEFINE_string("to", None,
                      f"One of {', '.join(export.FORMATS)}.")
  flags.DEFINE_string("out", None, "The training file.")
  flags.DEFINE_string(
      "layout", None, "Of itemizedclip: ct_rate, studies, rsicd or "
      "itemized_cc; that of the recipe unless given.")
  flags.DEFINE_string("into", None, "A training file whose reports are "
                      "replaced by the items; what else it says stays.")


def required(name: str) -> str:
  """The value of a flag.

  Raises:
    PrepareError: it is not given.
  """
  value = FLAGS[name].value
  if not value:
    raise PrepareError(f"--{name} is missing: {FLAGS[name].help} All flags: "
                       "--help.")
  return value


def parse(argv: list[str]) -> list[str]:
  """Ends with code 2 where absl's own parser ends with 1, our "exceeded".

  --dry-run is --dry_run.
  """
  argv = [argv[0], *map(_underscored, argv[1:])]
  try:
    return FLAGS(argv)
  except flags.Error as error:
    print(f"data_pipelines.itemize: {str(error).rstrip('.')}. All flags: "
          "--help.", file=sys.stderr)
    sys.exit(2)


def _underscored(argument: str) -> str:
  if not argument.startswith("--"):
    return argument
  name, equals, value = argument[2:].partition("=")
  return f"--{name.replace('-', '_')}{equals}{value}"

"""Counts of results: for the limits of a run and for the audit.

A tally is one flat Counter, so that the tallies of workers add up: "records",
"normal", "items", "items:3" (records of three items), "words:12" (items of
twelve words), "dropped:<reason>", "warning:<code>", "missing", "tokens_in",
"tokens_out".
"""

import collections
from typing import Any

from data_pipelines.itemize.contract import Result


def count(result: Result) -> collections.Counter:
  """The tally of one result."""
  tally = collections.Counter(
      records=1, normal=int(result.normal), items=len(result.items),
      anatomies=len(result.anatomies), triplets=len(result.triplets),
      tokens_in=result.tokens[0], tokens_out=result.tokens[1])
  tally[f"items:{len(result.items)}"] += 1
  for item in result.items:
    tally[f"words:{len(item.text.split())}"] += 1
  for dropped in result.dropped:
    tally[f"dropped:{dropped.reason}"] += 1
  codes = [warning.partition(":") for warning in result.warnings]
  for code in {code for code, _, _ in codes}:
    tally[f"warning:{code}"] += 1
  for code, _, detail in codes:
    if code == "missing" and detail.strip().isdecimal():
      tally["missing"] += int(detail)
  return tally


def table(tally: collections.Counter, kind: str) -> dict[str, int]:
  """The counts of one kind, e.g. "dropped": reason -> times, most first."""
  found = {key.partition(":")[2]: n for key, n in tally.items()
           if key.startswith(f"{kind}:") and n}
  return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def summary(tally: collections.Counter) -> dict[str, Any]:
  """What the sidecar of a run and the audit's page say in numbers.

  Shares are None where there is nothing to divide by.
  """
  gone, made = tally["dropped:unsupported"], tally["items"] + tally["triplets"]
  return {
      "records": tally["records"], "items": tally["items"],
      "anatomies": tally["anatomies"], "triplets": tally["triplets"],
      "normal": tally["normal"],
      "items_per_record": _share(tally["items"], tally["records"]),
      "normal_share": _share(tally["normal"], tally["records"]),
      "unsupported_share": _share(gone, made + gone),
      "parse_failure_share": _share(tally["warning:fallback"],
                                    tally["records"]),
      "missing_share": _share(tally["missing"],
                              tally["items"] + tally["missing"]),
      "dropped": table(tally, "dropped"), "warnings": table(tally, "warning"),
      "tokens": {"in": tally["tokens_in"], "out": tally["tokens_out"]}}


def faults(numbers: dict[str, Any], *, max_unsupported: float,
           max_parse_failures: float) -> list[str]:
  """A sentence for every limit that `summary` exceeds."""
  limits = (
      ("unsupported_share", max_unsupported, "of the items were dropped "
       "because the source does not say them", "--max_unsupported"),
      ("parse_failure_share", max_parse_failures, "of the records could not be "
       "answered by the chat server and were made by rules",
       "--max_parse_failures"))
  return [f"{numbers[share]:.2%} {what}, more than {flag}={limit:g}."
          for share, limit, what, flag in limits
          if (numbers[share] or 0) > limit]


def _share(part: int, whole: int) -> float | None:
  return part / whole if whole else None

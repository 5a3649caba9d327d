"""What a worker makes of one study."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Result:
  """record is None where the study was rejected; log says what and why.

  A line of the log has a "reason" where it tells of a study, or with "series"
  of a series, that was left out, and a "note" where it was used all the same.
  """
  study: str
  record: dict[str, Any] | None
  log: tuple[dict[str, str], ...]

"""A back-end of which a test says what it makes."""

import dataclasses

from data_pipelines.itemize.contract import Draft


@dataclasses.dataclass
class Fixed:
  """A back-end that makes the same of everything."""
  draft: Draft = Draft()
  name: str = "chat:fixed"
  asked: int = 0

  def items(self, recipe, record) -> Draft:
    self.asked += 1
    return dataclasses.replace(self.draft, backend=self.name)

  def settings(self):
    return {}

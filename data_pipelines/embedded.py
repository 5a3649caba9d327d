"""What the embedded data sets share: a seed, and a size for each split."""

import dataclasses

from data_pipelines.errors import PrepareError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedded:
  """Options of the build; a data set states its own sizes."""
  seed: int = 0
  num_train: int
  num_valid: int
  num_test: int

  def __post_init__(self):
    if min(self.sizes.values()) < 0 or not any(self.sizes.values()):
      raise PrepareError(f"The splits have sizes {self.sizes}; none may be "
                         "negative and one must be positive.")

  @property
  def sizes(self) -> dict[str, int]:
    return {"train": self.num_train, "valid": self.num_valid,
            "test": self.num_test}

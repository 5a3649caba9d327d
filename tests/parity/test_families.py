"""Every golden file is known: compared, or listed as not yet covered."""

import importlib
import warnings

from tests.conftest import GOLDEN
from tests.parity import conftest, families


def test_every_file_belongs_to_a_known_family(request):
  folder = request.config.getoption("--golden")
  files = {p.name: families.owner(p.name) for p in folder.glob("*.npz")}
  assert files, f"--golden={folder} holds no .npz file."
  unknown = sorted(name for name, family in files.items() if family is None)
  assert not unknown, (
      f"{unknown} in --golden belong to no family of tests/parity/families.py; "
      "add a test for them.")
  waiting = sorted(name for name, family in files.items()
                   if family in families.NOT_YET_COVERED)
  if waiting:
    warnings.warn(f"Not compared yet: {waiting}")


def test_every_covered_family_has_a_file_of_our_own_and_a_test():
  for prefix, module in families.COVERED.items():
    assert conftest.golden_files(GOLDEN, prefix), (
        f"tests/golden holds no {prefix}*.npz, so {module} compares nothing.")
    test = importlib.import_module(f"tests.parity.{module}")
    assert test.FAMILY == prefix

"""Every golden file is known: compared, or listed as not yet covered."""

import importlib
import warnings

from tests.parity import conftest, families


def test_every_file_belongs_to_a_known_family(request):
  known = tuple(families.COVERED) + tuple(families.NOT_YET_COVERED)
  unknown = [p.name for p in conftest.golden_files(request.config, "")
             if not p.name.startswith(known)]
  assert not unknown, (
      f"{unknown} in --golden belong to no family of tests/parity/families.py; "
      "add a test for them.")
  waiting = {p.name for p in conftest.golden_files(request.config, "")
             if not p.name.startswith(tuple(families.COVERED))}
  if waiting:
    warnings.warn(f"Not compared yet: {sorted(waiting)}")


def test_every_covered_family_has_files_and_a_test(request):
  for prefix, module in families.COVERED.items():
    assert conftest.golden_files(request.config, prefix), (
        f"--golden holds no {prefix}*.npz, so {module} compares nothing.")
    test = importlib.import_module(f"tests.parity.{module}")
    assert prefix.startswith(test.FAMILY)

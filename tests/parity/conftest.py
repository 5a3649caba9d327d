"""Hands each parity test the golden files of its family.

A test module names its `FAMILY`, a prefix of `families.COVERED`; its tests take
`data`, one loaded file. So the same tests run on whatever `--golden` holds.
"""

import pathlib

import numpy as np
import pytest

from tests.parity import families


def golden_files(folder: pathlib.Path, family: str) -> list[pathlib.Path]:
  """The files of one family; one with a longer prefix of its own is not."""
  return sorted(p for p in folder.glob("*.npz")
                if families.owner(p.name) == family)


def pytest_generate_tests(metafunc):
  if "data" in metafunc.fixturenames:
    files = golden_files(metafunc.config.getoption("--golden"),
                         metafunc.module.FAMILY)
    metafunc.parametrize("data", files, indirect=True,
                         ids=[p.stem for p in files])


@pytest.fixture
def data(request):
  with np.load(request.param) as archive:
    loaded = {k: archive[k] for k in archive.files}
  return loaded | {"name": request.param.stem}

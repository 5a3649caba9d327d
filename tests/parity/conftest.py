"""Hands each parity test the golden files of its family.

A test module names its `FAMILY`, a file-name prefix; its tests take `data`, one
loaded file. So the same tests run on whatever `--golden` holds.
"""

import numpy as np
import pytest


def golden_files(config, prefix: str):
  return sorted(p for p in config.getoption("--golden").glob("*.npz")
                if p.name.startswith(prefix))


def pytest_generate_tests(metafunc):
  if "data" in metafunc.fixturenames:
    files = golden_files(metafunc.config, metafunc.module.FAMILY)
    metafunc.parametrize("data", files, indirect=True,
                         ids=[p.stem for p in files])


@pytest.fixture
def data(request):
  with np.load(request.param) as archive:
    loaded = {k: archive[k] for k in archive.files}
  return loaded | {"name": request.param.stem}

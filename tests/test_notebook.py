"""The notebook runs from top to bottom, in sizes for a test.

Its cells are plain Python, so no kernel is needed: they are executed in order
in one process, with what the cell of settings holds changed behind it.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks/colab_smoke_test.ipynb"

RUNNER = """
import json, sys
cells, changes, first, last = json.loads(sys.stdin.read())
namespace = {}
for cell in cells[first:last]:
  exec(compile(cell, "<cell>", "exec"), namespace)
  if cell is cells[0]:
    unknown = changes.keys() - namespace.keys()
    assert not unknown, f"the cell of settings does not hold {unknown}"
    namespace.update(changes)
"""

# What shows things in a notebook; here it writes them down.
DISPLAY = """
import pathlib
HTML = str
def display(page):
  pathlib.Path(__file__).with_name("shown.html").write_text(page)
"""

TINY = ["--config.vision.patch=(12,16,16)", "--config.vision.width=24",
        "--config.vision.name_encoder=(16,1,2,16)", "--config.text.width=32",
        "--config.text.depth=1", "--config.train.steps=2",
        "--config.train.global_batch=8", "--config.eval.batch=8",
        "--config.eval.bootstrap=20", "--config.eval.min_positives=1"]


def _cells() -> list[dict]:
  return json.loads(NOTEBOOK.read_text())["cells"]


def _execute(cells, changes, folder, *, first=0, last=None):
  """The end of the process that ran the cells, in `folder`."""
  package = folder / "modules/IPython"
  package.mkdir(parents=True)
  (package / "__init__.py").touch()
  (package / "display.py").write_text(DISPLAY)
  sources = ["".join(cell["source"]) for cell in cells
             if cell["cell_type"] == "code"]
  environment = os.environ | {
      "PYTHONPATH": f"{ROOT}:{folder / 'modules'}",
      "XLA_FLAGS": re.sub(r"(device_count=)\d+", r"\g<1>1",
                          os.environ["XLA_FLAGS"])}
  return subprocess.run(
      [sys.executable, "-c", RUNNER], cwd=folder, env=environment, text=True,
      check=False, input=json.dumps([sources, changes, first, last]),
      capture_output=True, timeout=300)


def test_it_runs_from_top_to_bottom(tmp_path):
  (tmp_path / "itemclip_jax").symlink_to(ROOT)
  done = _execute(_cells(), {
      "INSTALL": False, "FOLDER": str(tmp_path / "run"), "SETTINGS": TINY,
      "STUDIES": {"train": 16, "valid": 8, "test": 8}}, tmp_path)
  assert done.returncode == 0, done.stdout + done.stderr
  assert "CpuDevice" in done.stdout
  assert re.search(r"zeroshot_auc/mean_tcsim +[01]\.\d{3}", done.stdout)
  shown = (tmp_path / "modules/IPython/shown.html").read_text()
  assert "data:image/png" in shown and "<iframe" in shown


def test_without_a_checkout_it_says_what_to_set(tmp_path):
  done = _execute(_cells(), {"INSTALL": False}, tmp_path, last=2)
  assert done.returncode and "set REPOSITORY" in done.stderr


def test_a_named_repository_is_cloned(tmp_path):
  origin, folder = tmp_path / "origin", tmp_path / "here"
  (origin / "configs").mkdir(parents=True)
  folder.mkdir()
  (origin / "run.sh").touch()
  (origin / "configs/demo.py").touch()
  git = ["git", "-C", str(origin), "-c", "user.name=a", "-c", "user.email=a@b"]
  for command in (["init", "--quiet"], ["add", "."],
                  ["commit", "--quiet", "-m", "a"]):
    subprocess.run([*git, *command], check=True)
  done = _execute(_cells(), {"INSTALL": False,
                             "REPOSITORY": f"file://{origin}"}, folder, last=2)
  assert done.returncode == 0, done.stderr
  assert (folder / "itemclip_jax/configs/demo.py").exists()


def test_it_is_a_notebook_without_output():
  notebook = json.loads(NOTEBOOK.read_text())
  assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
  assert len({cell["id"] for cell in notebook["cells"]}) == len(_cells())
  for cell in notebook["cells"]:
    assert cell["source"][-1][-1] != "\n" and cell["metadata"] == {}
    if cell["cell_type"] == "code":
      assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("mark", ["%", "!"])
def test_its_cells_are_plain_python(mark):
  lines = [line for cell in _cells() if cell["cell_type"] == "code"
           for line in cell["source"]]
  assert not [line for line in lines if line.lstrip().startswith(mark)]

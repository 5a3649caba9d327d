"""Metrics to `metrics.jsonl` and TensorBoard, JSON files written whole.

    metrics.jsonl  one object a line: "step" n and what the n-th update (from 0)
                   measured; or "step" n and, under "valid/", what validation
                   measured after n updates
    timing.jsonl   the same steps and what the clock said
"""

import json
import math
import os
import pathlib

import tensorboardX


def write_json(path: pathlib.Path, content):
  """Writes under another name first, so that no reader meets half a file.

  Numbers that are not finite become null: JSON has no word for them.
  """
  partial = path.with_name(path.name + ".partial")
  partial.write_text(json.dumps(_finite(content), indent=2) + "\n")
  partial.replace(path)


def _finite(x):
  if isinstance(x, dict):
    return {k: _finite(v) for k, v in x.items()}
  if isinstance(x, (list, tuple)):
    return [_finite(v) for v in x]
  return None if isinstance(x, float) and not math.isfinite(x) else x


class Writer:
  """Appends lines to `metrics.jsonl`; forgets what lies beyond `step`.

  A resumed run therefore leaves the lines of a run left alone. What the clock
  says, and no run repeats, goes to `timing.jsonl`.
  """

  def __init__(self, workdir: pathlib.Path, step: int):
    self._files = [_reopened(workdir / name, step)
                   for name in ("metrics.jsonl", "timing.jsonl")]
    self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"),
                                             purge_step=step)

  def __call__(self, step: int, metrics: dict[str, float],
               timing: dict[str, float] | None = None):
    for file, values in zip(self._files, (metrics, timing or {})):
      if values:
        file.write(json.dumps(_finite({"step": step} | values)) + "\n")
        file.flush()
      for name, value in values.items():
        self._board.add_scalar(name, value, step)

  def sync(self):
    """Waits until all lines are on the disk."""
    for file in self._files:
      os.fsync(file.fileno())

  def close(self):
    for file in self._files:
      file.close()
    self._board.close()


class Silent:
  """The writer of processes that are not the main one."""

  def __call__(self, step, metrics, timing=None):
    del step, metrics, timing

  def sync(self):
    """Nothing to wait for."""

  def close(self):
    """Nothing to close."""


def last_loss(workdir: pathlib.Path) -> float | None:
  """The training loss that stands last in `metrics.jsonl`."""
  for line in reversed(_lines(workdir / "metrics.jsonl")):
    if "loss/total" in (values := json.loads(line)):
      return values["loss/total"]
  return None


def _reopened(path: pathlib.Path, step: int):
  """The file, without the lines that a run from `step` on will write again."""
  partial = path.with_suffix(".partial")
  partial.write_text("".join(
      line + "\n" for line in _lines(path) if _is_past(json.loads(line), step)))
  partial.replace(path)
  return path.open("a")


def _is_past(line: dict, step: int) -> bool:
  """A validation line is older than the checkpoint of the same number."""
  validation = any(name.startswith("valid/") for name in line)
  return line["step"] < step + validation


def _lines(path: pathlib.Path) -> list[str]:
  """Whole lines; a last one that was cut off by an interruption is dropped."""
  if not path.exists():
    return []
  text = path.read_text()
  return text[:text.rfind("\n") + 1].splitlines()
